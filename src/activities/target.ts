import { cancellationSignal } from '@temporalio/activity';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { failure } from '../shared/index.js';
import type { BootEvidence } from '../shared/index.js';
import { ownSnapshots } from './source.js';
import { importingName, type OwnedObject, type VmObservation, type Xapi } from '../xapi/index.js';
import type { Deps } from './deps.js';
import { poll } from './polling.js';
import type { TargetActivities } from './types.js';

const POLL_MS = 1_000;
/** How a person removes what was found on the pool. */
const REMOVE: Record<OwnedObject['kind'], string> = {
  VM: 'xe vm-uninstall',
  snapshot: 'xe snapshot-uninstall',
  VDI: 'xe vdi-destroy',
  network: 'xe network-destroy',
  task: 'xe task-cancel',
};
/** What an SR may keep for itself when a clone is gone. */
const METADATA_BYTES = 64 * 2 ** 20;
/** Coalescing is the SR's own business, in its own time, and other VMs grow meanwhile: that need not hold up anybody. */
const SPACE_BACK_MS = 10_000;

export function targetActivities({ config, vsphere, xapi }: Deps): TargetActivities {
  return {
    async createTarget({ pool, migrationId, input, source }) {
      const client = xapi(pool);
      const { vmUuid } = await client.createTargetVm({
        migrationId,
        name: input.vm,
        description: `${source.guestFullName}, from ${input.source.vcenter} ${input.source.vmMoRef} by surefire`,
        cpuCount: source.cpuCount,
        coresPerSocket: source.coresPerSocket,
        memoryBytes: source.memoryBytes,
        firmware: source.firmware,
        isWindows: source.isWindows,
        nics: source.nics.map(({ mac, networkName }) => ({
          mac,
          networkUuid: input.target.networks[networkName] ?? '',
        })),
        hasCdDrive: source.hasCdDrive,
      });
      const disks = [];
      for (const [index, { deviceKey, label, capacityBytes }] of source.disks.entries()) {
        const made = await client.createTargetDisk({
          migrationId,
          vmUuid,
          deviceKey,
          label: `${input.vm} ${label}`,
          virtualSizeBytes: capacityBytes,
          srUuid: input.target.srUuid,
          index,
        });
        disks.push({ deviceKey, vdiUuid: made.vdiUuid, vdiSizeBytes: made.virtualSizeBytes });
      }
      return { targetVmUuid: vmUuid, disks };
    },

    async replaceTargetDisk({ pool, targetVmUuid, vdiUuid, capacityBytes, ...disk }) {
      const spec = { ...disk, vmUuid: targetVmUuid, virtualSizeBytes: capacityBytes };
      const made = await xapi(pool).replaceDisk(vdiUuid, spec);
      return { vdiUuid: made.vdiUuid, vdiSizeBytes: made.virtualSizeBytes };
    },

    snapshotTarget: ({ pool, migrationId, targetVmUuid, name, pass }) =>
      xapi(pool).snapshotTarget({ vmUuid: targetVmUuid, name, migrationId, pass }),

    destroyTargetSnapshot: ({ pool, migrationId, snapshotUuid }) => xapi(pool).destroyVm(snapshotUuid, migrationId),

    async createTestCopy({ pool, migrationId, vm, snapshotUuid, nics, srUuid }) {
      const client = xapi(pool);
      const { usedBytes } = await client.srFacts(srUuid);
      const networkName = `${config.testNetwork.name} ${vm}`;
      const made = await client.createTestCopy({ migrationId, snapshotUuid, name: vm, networkName, nics });
      return { testVmUuid: made.vmUuid, networkUuid: made.networkUuid, srUsedBytesBefore: usedBytes };
    },

    async startTestCopy({ pool, migrationId, testVmUuid, stableSeconds }) {
      const client = xapi(pool);
      await client.requireIsolated(testVmUuid, migrationId);
      await client.startVm(testVmUuid);
      return watchBoot(client, testVmUuid, stableSeconds, join(config.state.dir, 'evidence'));
    },

    observeStarted: async ({ pool, vmUuid }) => evidenceOf(vmUuid, await xapi(pool).observeVm(vmUuid), 0),

    async destroyTestCopy({ pool, migrationId, srUuid, srUsedBytesBefore }) {
      const client = xapi(pool);
      await client.destroyTestCopy(migrationId);
      if (srUsedBytesBefore === undefined) return false;
      const allowed = srUsedBytesBefore + METADATA_BYTES;
      const isBack = await poll(async () => (await client.srFacts(srUuid)).usedBytes <= allowed || undefined, {
        everyMs: 2 * POLL_MS,
        timeoutMs: SPACE_BACK_MS,
      });
      return isBack === true;
    },

    async withdrawTarget({ pool, targetVmUuid, name, reason }) {
      // Blocked first, so that what is seen then stays true. The epoch is the start time of what never started.
      await xapi(pool).blockStart(targetVmUuid, reason);
      const { powerState, startTime } = await xapi(pool).observeVm(targetVmUuid);
      const hasRun = powerState !== 'Halted' || Date.parse(startTime) !== 0;
      if (!hasRun) await xapi(pool).renameVm(targetVmUuid, importingName(name));
      return { hasRun };
    },

    async startTarget({ pool, targetVmUuid, name, source, stableSeconds }) {
      const client = xapi(pool);
      const power = await vsphere(source.vcenter).powerState({ vmMoRef: source.vmMoRef });
      if (power !== 'poweredOff') {
        throw failure('NeedsAttention', {
          what: `${name} is not started on the target: the source is ${power}.`,
          why: 'Source and target never run at once.',
          next: 'find out who powered it on; the cutover is undone.',
        });
      }
      await client.renameVm(targetVmUuid, name);
      await client.unblockStart(targetVmUuid);
      // The last moment in which nothing has run yet, and a person may have changed their mind.
      cancellationSignal().throwIfAborted();
      await client.startVm(targetVmUuid);
      return watchBoot(client, targetVmUuid, stableSeconds, join(config.state.dir, 'evidence'));
    },

    async retireTarget({ pool, targetVmUuid, name, reason }) {
      const client = xapi(pool);
      // Blocked first: between stop and block somebody could start it again.
      await client.blockStart(targetVmUuid, reason);
      await client.stopVm(targetVmUuid);
      await client.unmarkFinished(targetVmUuid);
      await client.renameVm(targetVmUuid, `[Rolled back] ${name}`);
    },

    destroyTarget: ({ pool, migrationId }) => xapi(pool).destroyOwned(migrationId),

    async finishTarget({ pool, migrationId, targetVmUuid, name, instanceUuid }) {
      await xapi(pool).destroyTasks(migrationId);
      await xapi(pool).markFinished(targetVmUuid, instanceUuid);
      await xapi(pool).renameVm(targetVmUuid, name);
    },

    async restoreSourcePower({ vcenter, vmMoRef, pool, powerState, targetVmUuid }) {
      if (powerState !== 'poweredOn') return;
      if (targetVmUuid !== undefined) await requireTargetAsleep(xapi(pool), targetVmUuid);
      await vsphere(vcenter).powerOn({ vmMoRef });
    },

    async listLeftovers({ vcenter, vmMoRef, migrationId, pool, keep }) {
      const snapshots = await ownSnapshots(vsphere(vcenter), { vcenter, vmMoRef, migrationId });
      const owned = await xapi(pool).listOwned(migrationId);
      const kept = new Set(keep);
      const keptDisks = await disksOfKept(xapi(pool), keep);
      return [
        ...snapshots.map(
          ({ name, moRef }) =>
            `source: snapshot "${name}" (${moRef}) of ${vmMoRef}; delete it in the vSphere client, under Manage Snapshots`,
        ),
        ...owned
          .filter(({ uuid }) => !kept.has(uuid) && !keptDisks.has(uuid))
          .map(({ kind, name, uuid }) => `target: ${kind} "${name}" (${uuid}); \`${REMOVE[kind]} uuid=${uuid}\``),
      ];
    },
  };
}

/** Both sides never run at once: the source starts only while the target is observed halted and blocked, or gone (R11). */
async function requireTargetAsleep(client: Xapi, targetVmUuid: string): Promise<void> {
  const powerState = await client.powerStateOf(targetVmUuid);
  if (powerState === undefined) return;
  if (powerState === 'Halted' && (await client.isBlocked(targetVmUuid))) return;
  throw failure('TargetBusy', {
    what: `The source is not powered on: the target ${targetVmUuid} is ${powerState}${powerState === 'Halted' ? ' and may be started' : ''}.`,
    why: 'Source and target never run at once.',
    next: 'stop and block the target; this step is tried again.',
  });
}

async function disksOfKept(client: Xapi, keep: string[]): Promise<Set<string>> {
  const disks = await Promise.all(keep.map((vmUuid) => client.diskUuidsOf(vmUuid)));
  return new Set(disks.flat());
}

/** Watches a VM that was just started: it has booted when it runs and its start time does not move (R23). */
async function watchBoot(client: Xapi, vmUuid: string, stableSeconds: number, folder: string): Promise<BootEvidence> {
  const begun = Date.now();
  let seen = await client.observeVm(vmUuid);
  let stableSince = begun;
  await poll(
    async () => {
      const next = await client.observeVm(vmUuid);
      if (next.startTime !== seen.startTime || next.powerState !== 'Running') stableSince = Date.now();
      seen = next;
      return Date.now() - stableSince >= stableSeconds * 1000 ? true : undefined;
    },
    // A reboot or two are a guest's right; a loop is not a boot.
    { everyMs: POLL_MS, timeoutMs: (stableSeconds * 3 + 60) * 1000 },
  );
  const evidence = evidenceOf(vmUuid, seen, Math.floor((Date.now() - stableSince) / 1000));
  const picture = await keepPicture(client, vmUuid, folder);
  return {
    ...evidence,
    booted: evidence.booted && evidence.stableSeconds >= Math.floor(stableSeconds),
    ...(picture && { consolePicture: picture }),
  };
}

function evidenceOf(vmUuid: string, seen: VmObservation, stableSeconds: number): BootEvidence {
  return {
    vmUuid,
    powerState: seen.powerState,
    startTime: seen.startTime,
    stableSeconds,
    booted: seen.powerState === 'Running',
    ...(seen.guest && { osVersion: seen.guest.osVersion, pvDrivers: seen.guest.pvDrivers }),
    addresses: seen.guest?.addresses ?? [],
    vifs: seen.vifs,
  };
}

/** Keeps the console's picture as a file; without one (an older pool) the evidence is the poorer for it, no more. */
async function keepPicture(client: Xapi, vmUuid: string, folder: string): Promise<BootEvidence['consolePicture']> {
  const picture = await client.consolePicture(vmUuid);
  if (!picture) return undefined;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const file = join(folder, `${vmUuid}.${picture.contentType === 'image/png' ? 'png' : 'jpg'}`);
  await writeFile(file, picture.bytes, { mode: 0o600 });
  return { contentType: picture.contentType, bytes: picture.bytes.length, file };
}
