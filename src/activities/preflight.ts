import { hostname } from 'node:os';
import { endpointOptions } from '../config.js';
import { probeTools, toolFindings } from '../nbd/index.js';
import type { TransportProbe } from '../nbd/index.js';
import { hasErrors } from '../shared/index.js';
import type { Finding, MigrationInput, Transport } from '../shared/index.js';
import { findSourceProblems } from '../vsphere/index.js';
import type { SourceDisk, SourceVm } from '../vsphere/index.js';
import type { Deps } from './deps.js';
import { checkPool, checkVcenter } from './endpoints.js';
import { singleLinkObstacle, trackingObstacle, withMethods } from './delta-obstacles.js';
import { probeReach } from './reach.js';
import { chooseTransport, httpsFindings } from './transport-choice.js';
import type { Address, PreflightResult, SourceDiskFacts, SourceFacts } from './types.js';

/**
 * Stage 0: looks at both sides and changes neither. All findings at once: errors stop the migration, warnings want an
 * acknowledgement, and each says what to do.
 *
 * @param probe What the transfer host reads with; left out where that host cannot be asked, and then not judged.
 * @param host Its name, for people.
 */
export async function preflight(
  deps: Deps,
  { input, probe, host = input.transferQueue }: { input: MigrationInput; probe?: TransportProbe; host?: string },
): Promise<PreflightResult> {
  const { vcenter, vmMoRef } = input.source;
  const { pool } = input.target;
  const sides = (await Promise.all([checkVcenter(deps, vcenter), checkPool(deps, pool)])).flat();
  const told = sides.filter(({ severity }) => severity !== 'info');
  // A side that cannot be asked has nothing to say of the VM.
  if (told.some(({ code }) => code === 'endpoint' || code === 'certificate')) return { findings: told };
  const client = deps.vsphere(vcenter);
  const vm = await client.inspectVm({ vmMoRef });
  const { isEsxi, apiVersion } = await client.about();
  const transport = chooseTransport(vm, input.policy.transport, probe);
  const source = factsOf(vm, (disk) => singleLinkObstacle(disk, vm, { transport, apiVersion, probe }));
  const findings = [
    ...findSourceProblems(vm).map((finding) => weigh(finding, input, source.disks)),
    ...told,
    ...(probe === undefined ? [] : toolFindings(host, probe, transport)),
    ...(transport === 'https' ? httpsFindings(vm) : []),
    ...hookFindings(deps, input),
    ...(await deps.xapi(pool).targetFindings({
      ...vm,
      srUuid: input.target.srUuid,
      nics: vm.nics.map(({ mac, networkName }) => ({ mac, networkUuid: input.target.networks[networkName] })),
      repeatReason: input.repeatReason,
      verify: input.policy.verify,
    })),
    ...networkFindings(vm, input),
  ];
  return { findings, plan: { transport, source, mustReach: addressesFor(deps, input, transport, vm, isEsxi) } };
}

/** The same look for `surefire check VM`, from this process. */
export async function checkMigration(deps: Deps, input: MigrationInput): Promise<Finding[]> {
  const { findings, plan } = await preflight(deps, {
    input,
    probe: await probeTools(deps.config.transfer),
    host: hostname(),
  });
  return [...findings, ...(await probeReach(plan?.mustReach ?? []))];
}

/** The errors that forbid a start, as far as they can be seen from anywhere: not those of the transfer host. */
export async function refusals(deps: Deps, input: MigrationInput): Promise<Finding[]> {
  const { findings } = await preflight(deps, { input });
  return findings.filter((finding) => hasErrors([finding]));
}

/** HTTPS to both sides and, through VDDK, the ESXi host that serves the disks. */
function addressesFor(
  { config }: Deps,
  { source, target }: MigrationInput,
  transport: Transport,
  vm: SourceVm,
  isEsxi: boolean,
): Address[] {
  const at = (url: string, what: string): Address => {
    const { hostname, port } = new URL(url);
    return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 443), what };
  };
  const vcenter = at(endpointOptions(config, 'vcenters', source.vcenter).url, `vCenter ${source.vcenter}`);
  const pool = at(endpointOptions(config, 'pools', target.pool).url, `Pool ${target.pool}`);
  if (transport === 'https') return [vcenter, pool];
  // A lone ESXi host calls itself by a name of its own; the address it is configured by works.
  const host = isEsxi ? vcenter.host : vm.host.name;
  return [vcenter, pool, { host, port: config.vcenters[source.vcenter]?.nfcPort ?? 902, what: `ESXi host ${host}` }];
}

function factsOf(vm: SourceVm, obstacleOf: (disk: SourceDisk) => string | undefined): SourceFacts {
  return {
    name: vm.name,
    powerState: vm.powerState,
    firmware: vm.firmware,
    cpuCount: vm.cpuCount,
    coresPerSocket: vm.coresPerSocket,
    memoryBytes: vm.memoryBytes,
    guestFullName: vm.guestFullName,
    isWindows: vm.isWindows,
    instanceUuid: vm.instanceUuid,
    changeTrackingEnabled: vm.changeTrackingEnabled,
    withoutChangeTracking: trackingObstacle(vm),
    toolsInstalled: vm.tools.installed,
    hasCdDrive: vm.hasCdDrive,
    nics: vm.nics.map(({ mac, networkName }) => ({ mac, networkName })),
    disks: vm.disks.map((disk) => {
      const { deviceKey, label, capacityBytes } = disk;
      return { deviceKey, label, capacityBytes, singleLinkObstacle: obstacleOf(disk) };
    }),
  };
}

/** What weighs otherwise for this migration than for any VM. */
function weigh(finding: Finding, { repeatReason }: MigrationInput, disks: SourceDiskFacts[]): Finding {
  if (finding.code === 'V4') return withMethods(finding, disks);
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
      observed: 'The shutdown hook was asked for, but none is configured on the orchestrator.',
      expected: '`hooks.shutdown.command` in surefire.yaml',
      remedy: 'configure it, or start without --shutdown-hook.',
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
      observed: `Source network "${networkName}" has no target.`,
      expected: 'a target network for every card',
      remedy: `add it under \`networks\` of the pool, or give --network "${networkName}=TARGET".`,
    }));
}
