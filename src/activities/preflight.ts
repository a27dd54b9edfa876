import type { Finding, MigrationInput, Transport } from '../shared/index.js';
import { findSourceProblems } from '../vsphere/index.js';
import type { SourceVm } from '../vsphere/index.js';
import type { Deps } from './deps.js';
import { probeTransports } from './transports.js';
import type { PreflightResult, TransportProbe } from './types.js';

/**
 * Stage 0: looks at both sides and changes neither. All findings at once: errors stop the migration, warnings want an
 * acknowledgement, and each says what to do.
 */
export async function preflight(
  deps: Deps,
  { input, probe }: { input: MigrationInput; probe: TransportProbe },
): Promise<PreflightResult> {
  const { vcenter, vmMoRef } = input.source;
  const client = deps.vsphere(vcenter);
  const vm = await client.inspectVm({ vmMoRef });
  const transport = chooseTransport(vm, input.policy.transport, probe);
  const source = factsOf(vm);
  const findings = [
    ...findSourceProblems(vm).map((finding) => weigh(finding, input)),
    ...(await client.checkPrivileges()),
    ...transportFindings(vm, input, transport, probe),
    ...hookFindings(deps, input),
    ...(await deps.xapi(input.target.pool).targetFindings({
      name: vm.name,
      srUuid: input.target.srUuid,
      firmware: vm.firmware,
      secureBoot: vm.secureBoot,
      memoryBytes: vm.memoryBytes,
      cpuCount: vm.cpuCount,
      isWindows: vm.isWindows,
      disks: source.disks,
      nics: source.nics.map(({ mac, networkName }) => ({ mac, networkUuid: input.target.networks[networkName] })),
      instanceUuid: vm.instanceUuid,
      repeatReason: input.repeatReason,
    })),
    ...networkFindings(vm, input),
  ];
  return { findings, transport, source };
}

/** The same look for `surefire check VM`, from this process. */
export async function checkMigration(deps: Deps, input: MigrationInput): Promise<PreflightResult> {
  return preflight(deps, { input, probe: await probeTransports(deps) });
}

function factsOf(vm: SourceVm): PreflightResult['source'] {
  return {
    name: vm.name,
    powerState: vm.powerState,
    firmware: vm.firmware,
    secureBoot: vm.secureBoot,
    cpuCount: vm.cpuCount,
    coresPerSocket: vm.coresPerSocket,
    memoryBytes: vm.memoryBytes,
    guestId: vm.guestId,
    guestFullName: vm.guestFullName,
    isWindows: vm.isWindows,
    instanceUuid: vm.instanceUuid,
    changeTrackingEnabled: vm.changeTrackingEnabled,
    toolsInstalled: vm.tools.installed,
    hasCdDrive: vm.hasCdDrive,
    nics: vm.nics.map(({ mac, networkName }) => ({ mac, networkName })),
    disks: vm.disks.map(({ deviceKey, label, capacityBytes, datastore }) => ({
      deviceKey,
      label,
      capacityBytes,
      datastore: datastore?.name ?? 'unknown',
    })),
  };
}

/** VDDK where it works, because it is faster and needs no empty chain; else https, the door that is always open. */
function chooseTransport(
  vm: SourceVm,
  wanted: MigrationInput['policy']['transport'],
  probe: TransportProbe,
): Transport {
  if (wanted !== 'auto') return wanted;
  return probe.vddk.usable || httpsObstacles(vm).length > 0 ? 'vddk' : 'https';
}

/** Disks that `/folder` does not serve as one flat file. */
function httpsObstacles(vm: SourceVm): string[] {
  return vm.disks.flatMap((disk) => {
    if (disk.kind !== 'flat') return [`${disk.label} is ${disk.kind}, not a flat file`];
    if (disk.datastore && /vsan|vvol/i.test(disk.datastore.type))
      return [`${disk.label} lies on ${disk.datastore.type}`];
    return [];
  });
}

function transportFindings(
  vm: SourceVm,
  input: MigrationInput,
  transport: Transport,
  probe: TransportProbe,
): Finding[] {
  const findings: Finding[] = [];
  const about = { object: vm.name };
  if (probe.nbdkit === undefined) {
    findings.push({
      code: 'N1',
      severity: 'error',
      object: input.transferQueue,
      observed: 'nbdkit does not run on the transfer host',
      expected: 'nbdkit 1.32.5 or newer',
      remedy: 'install the package nbdkit there',
    });
  } else if (!probe[transport].usable) {
    findings.push({
      ...about,
      code: 'N2',
      severity: 'error',
      observed: `transport ${transport} is not usable: ${probe[transport].why}`,
      expected: 'a transport that works on the transfer host',
      remedy:
        transport === 'vddk'
          ? 'install VDDK there, or migrate with --transport https'
          : 'install nbdkit with its curl plugin there',
    });
  }
  if (transport !== 'https') return findings;
  for (const obstacle of httpsObstacles(vm)) {
    findings.push({
      ...about,
      code: 'N3',
      severity: 'error',
      observed: obstacle,
      expected: 'flat files on VMFS or NFS',
      remedy: 'use the vddk transport',
    });
  }
  findings.push({
    ...about,
    code: 'N4',
    severity: 'warning',
    observed: 'over https the oldest snapshot is what can be read',
    expected: 'knowing that there is no way back to "vm starting point" once the clean snapshot is taken',
    remedy:
      'acknowledge it: "vm starting point" ends at stage clean-snapshot, "vm without tools" when the test is accepted',
  });
  return findings;
}

/** What weighs otherwise for this migration than for any VM. */
function weigh(finding: Finding, { repeatReason }: MigrationInput): Finding {
  // Deltas come from change tracking alone; without it there is no short outage to offer.
  if (finding.code === 'V4') return { ...finding, severity: 'error' };
  // The mark of a finished migration: repeating a success needs a reason, and then it is no accident (R12).
  if (finding.code === 'V18' && repeatReason) return { ...finding, severity: 'warning' };
  return finding;
}

function hookFindings({ config }: Deps, { policy, vm }: MigrationInput): Finding[] {
  if (!policy.shutdownHook || config.hooks.shutdown) return [];
  return [
    {
      code: 'H1',
      severity: 'error',
      object: vm,
      observed: 'the shutdown hook was asked for, but none is configured on the orchestrator',
      expected: '`hooks.shutdown.command` in surefire.yaml',
      remedy: 'configure it, or start without --shutdown-hook',
    },
  ];
}

function networkFindings(vm: SourceVm, { target }: MigrationInput): Finding[] {
  return vm.nics
    .filter(({ networkName }) => target.networks[networkName] === undefined)
    .map(({ networkName, label }) => ({
      code: 'T1',
      severity: 'error' as const,
      object: `${vm.name} ${label}`,
      observed: `source network "${networkName}" has no target`,
      expected: 'a target network for every card',
      remedy: `add it under \`networks\` of the pool, or give --network "${networkName}=TARGET"`,
    }));
}
