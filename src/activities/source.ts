import { execa } from 'execa';
import { cancellationSignal } from '@temporalio/activity';
import { withheldVariables } from '../config.js';
import { failure, failureTypeOf } from '../shared/index.js';
import { redact } from '../shared/redaction.js';
import { isOwnedBy } from '../vsphere/index.js';
import type { SnapshotDisk, SnapshotInfo, Vsphere } from '../vsphere/index.js';
import type { Deps } from './deps.js';
import { poll } from './polling.js';
import { httpsObstacles } from './transport-choice.js';
import type { SourceActivities, SourceRef } from './types.js';

const POLL_MS = 2_000;

/** Everything a migration does to the source but reading its disks and choosing its power state after a failure. */
export function sourceActivities({ vsphere, config }: Deps): SourceActivities {
  return {
    async listForeignSnapshots({ vcenter, vmMoRef, migrationId }) {
      const all = await vsphere(vcenter).listSnapshots({ vmMoRef });
      return all
        .filter((snapshot) => !isOwnedBy(snapshot, migrationId))
        .map(({ moRef, name, createTime, sizeBytes }) => ({ moRef, name, createTime, sizeBytes }));
    },

    async removeSourceSnapshots({ vcenter, vmMoRef, snapshotMoRefs }) {
      await vsphere(vcenter).removeSnapshots({ vmMoRef, snapshotMoRefs });
      await vsphere(vcenter).waitForConsolidation({ vmMoRef });
    },

    async removeOwnSnapshots(input) {
      const client = vsphere(input.vcenter);
      const ours = await ownSnapshots(client, input);
      const named = ours.filter(({ name }) => input.names.includes(name));
      if (named.length > 0) {
        await client.removeSnapshots({ vmMoRef: input.vmMoRef, snapshotMoRefs: named.map(({ moRef }) => moRef) });
      }
      await client.waitForConsolidation({ vmMoRef: input.vmMoRef });
    },

    async setChangeTracking({ vcenter, vmMoRef, enabled }) {
      await vsphere(vcenter).setChangeTracking({ vmMoRef, enabled });
    },

    async createSourceSnapshot({ vcenter, vmMoRef, migrationId, name, alone }) {
      const client = vsphere(vcenter);
      if (alone) await requireNoOther(client, { vcenter, vmMoRef, migrationId }, name);
      const { adopted: _adopted, ...taken } = await client.ensureSnapshot({
        vmMoRef,
        name,
        ownerId: migrationId,
        description: `Made by surefire for the migration ${migrationId}; it is removed when it has served.`,
      });
      const disks = await client.snapshotDisks(taken);
      if (alone) refuseParents(disks, name);
      return { ...taken, disks: disks.map(frozen) };
    },

    async requireUnchained({ vcenter, snapshotMoRef }) {
      const disks = await vsphere(vcenter).snapshotDisks({ snapshotMoRef });
      refuseParents(disks, snapshotMoRef);
      return disks.map(frozen);
    },

    async httpsObstacles({ vcenter, vmMoRef }) {
      return httpsObstacles(await vsphere(vcenter).inspectVm({ vmMoRef }));
    },

    async revertSource({ vcenter, vmMoRef, snapshotMoRef, powerOn }) {
      const client = vsphere(vcenter);
      await client.revertToSnapshot({ snapshotMoRef });
      // No memory image was taken, so a reverted VM is off (R7).
      if (powerOn) await client.powerOn({ vmMoRef });
      await client.setChangeTracking({ vmMoRef, enabled: true });
    },

    async observeGuest({ vcenter, vmMoRef }) {
      return observe(vsphere(vcenter), vmMoRef);
    },

    async watchToolsRemoval({ vcenter, vmMoRef }) {
      const seen = await poll(
        async () => {
          const guest = await observe(vsphere(vcenter), vmMoRef);
          return guest.toolsInstalled ? undefined : guest;
        },
        { everyMs: POLL_MS },
      );
      return { goneAt: new Date().toISOString(), bootTimeThen: seen?.bootTime };
    },

    async requestGuestShutdown({ vcenter, vmMoRef }) {
      const guest = await observe(vsphere(vcenter), vmMoRef);
      if (!guest.toolsRunning) return { asked: false, why: `VMware Tools do not run (${guest.toolsStatus})` };
      await vsphere(vcenter).shutdownGuest({ vmMoRef });
      return { asked: true };
    },

    async runShutdownHook({ vmMoRef, vm }) {
      const [program, ...args] = config.hooks.shutdown?.command ?? [];
      if (program === undefined) return { ran: false, why: 'no `hooks.shutdown.command` is configured' };
      const result = await execa(program, args, {
        env: { ...withheldVariables(config), SUREFIRE_VM: vm, SUREFIRE_MOREF: vmMoRef },
        timeout: config.policy.shutdownTimeoutSeconds * 1000,
        cancelSignal: cancellationSignal(),
        // execa's own listener would let SIGTERM kill the worker before it has reported.
        cleanup: false,
        reject: false,
        stdin: 'ignore',
      });
      if (result.isCanceled) cancellationSignal().throwIfAborted();
      if (!result.failed) return { ran: true };
      const said = redact(String(result.stderr)).trim().split('\n').at(-1)?.slice(0, 300);
      const how = `${program} ended with ${result.exitCode ?? result.signal ?? result.code}`;
      return { ran: false, why: said ? `${how}; it said: ${said}` : how };
    },

    async powerOffSource({ vcenter, vmMoRef }) {
      await vsphere(vcenter).powerOff({ vmMoRef });
    },

    async waitForPowerOff({ vcenter, vmMoRef, timeoutSeconds }) {
      const off = await poll(
        async () => ((await vsphere(vcenter).powerState({ vmMoRef })) === 'poweredOff' ? true : undefined),
        { everyMs: POLL_MS, timeoutMs: timeoutSeconds * 1000 },
      );
      return { off: off ?? false, at: new Date().toISOString() };
    },

    async planDeltas({ vcenter, vmMoRef, snapshotMoRef, disks }) {
      const client = vsphere(vcenter);
      return Promise.all(
        disks.map(async ({ deviceKey, capacityBytes, sinceChangeId }) => {
          if (sinceChangeId === undefined) return { deviceKey, reset: 'no changeId is known' };
          try {
            const since = { deviceKey, changeId: sinceChangeId, capacityBytes };
            const areas = await client.queryChangedAreas({ vmMoRef, snapshotMoRef, ...since });
            return { deviceKey, bytes: areas.reduce((sum, area) => sum + area.length, 0), extents: areas.length };
          } catch (error) {
            if (!['ChangeTrackingReset', 'ChangedAreasInvalid'].includes(failureTypeOf(error) ?? '')) throw error;
            return { deviceKey, reset: error instanceof Error ? (error.message.split('\n')[0] ?? '') : '' };
          }
        }),
      );
    },

    async markSource({ vcenter, vmMoRef, mark }) {
      await vsphere(vcenter).setMark({ vmMoRef, mark });
    },
  };
}

/** Our snapshots of this migration, newest first. */
export async function ownSnapshots(client: Vsphere, { vmMoRef, migrationId }: SourceRef): Promise<SnapshotInfo[]> {
  const all = await client.listSnapshots({ vmMoRef });
  return all.filter((snapshot) => isOwnedBy(snapshot, migrationId)).reverse();
}

async function requireNoOther(client: Vsphere, source: SourceRef, name: string): Promise<void> {
  const all = await client.listSnapshots({ vmMoRef: source.vmMoRef });
  const others = all.filter((snapshot) => !(isOwnedBy(snapshot, source.migrationId) && snapshot.name === name));
  if (others.length === 0) return;
  throw failure('ForeignSnapshot', {
    what: `Snapshot "${name}" cannot be taken: ${others.map((other) => `"${other.name}"`).join(', ')} is in the way.`,
    why: 'The oldest snapshot is what would be read.',
    next: 'find out who took it (often a backup job), remove it, then decide `retry`.',
  });
}

function refuseParents(disks: SnapshotDisk[], name: string): void {
  const chained = disks.find(({ parentFileName }) => parentFileName !== undefined);
  if (!chained) return;
  throw failure('ForeignSnapshot', {
    what: `Disk ${chained.deviceKey} in snapshot "${name}" still has a parent, ${chained.parentFileName}.`,
    why: 'Reading its base file would serve older bytes than the snapshot.',
    next: 'remove other snapshots and wait for consolidation, then decide `retry`.',
  });
}

const frozen = ({ parentFileName: _parent, ...disk }: SnapshotDisk) => disk;

async function observe(client: Vsphere, vmMoRef: string) {
  const vm = await client.inspectVm({ vmMoRef });
  return {
    powerState: vm.powerState,
    toolsInstalled: vm.tools.installed,
    toolsRunning: vm.tools.running,
    toolsStatus: vm.tools.versionStatus,
    bootTime: vm.bootTime,
  };
}
