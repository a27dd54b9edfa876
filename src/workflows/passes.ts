import { failureTypeOf } from '../shared/index.js';
import type { DiskState } from '../shared/index.js';
import type { CopyDiskInput, SourceSnapshot } from '../activities/types.js';
import { step, transferOn } from './activity-options.js';
import { isStop } from './pause.js';
import type { Migration } from './state.js';

/** A host that reboots is back by then. In the outage the budget counts instead: the source shall run again. */
const PATIENCE_SECONDS = 600;

/** A pass in the making: which snapshot is read, and what each disk's copy was asked to do. */
export interface Pass {
  name: string;
  snapshot: SourceSnapshot;
  inputs: Map<number, CopyDiskInput>;
  /** Disks that were given an empty VDI for this pass. */
  renewed: Set<number>;
}

export const newPass = (name: string, snapshot: SourceSnapshot): Pass => ({
  name,
  snapshot,
  inputs: new Map(),
  renewed: new Set(),
});

/**
 * Describes the copy of one disk: a delta where a changeId is known, else a full pass. Pure, so that a verification
 * later means the same plan.
 */
export function describeCopy(
  migration: Migration,
  pass: string,
  snapshot: SourceSnapshot,
  disk: DiskState,
): CopyDiskInput {
  const frozen = snapshot.disks.find(({ deviceKey }) => deviceKey === disk.deviceKey);
  if (!frozen || disk.vdiUuid === undefined)
    throw new Error(`${disk.label} is not in the snapshot, or has no target disk`);
  return {
    source: migration.source,
    target: migration.target,
    disk: { deviceKey: disk.deviceKey, label: disk.label, capacityBytes: disk.capacityBytes, vdiUuid: disk.vdiUuid },
    pass,
    kind: disk.changeId === undefined ? 'base' : 'delta',
    transport: migration.transport,
    snapshotMoRef: snapshot.snapshotMoRef,
    fileName: frozen.fileName,
    baseFileName: frozen.baseFileName,
    ...(disk.changeId !== undefined && { sinceChangeId: disk.changeId }),
    patienceSeconds:
      migration.stage === 'cutover'
        ? Math.min(PATIENCE_SECONDS, migration.input.policy.downtimeBudgetSeconds)
        : PATIENCE_SECONDS,
  };
}

/**
 * Copies all disks of a pass side by side. A disk that has this pass already is left alone, so a retried stage goes on
 * where it was. A disk whose change tracking was reset is copied in full to a new VDI (R8), where `mayRedo` allows it.
 */
export async function copyDisks(migration: Migration, pass: Pass, mayRedo: boolean): Promise<void> {
  await everyDisk(migration, (disk) => copyOne(migration, pass, disk, mayRedo));
}

/** Disks side by side, to the end of each; what has not come through when the migration is paused is begun again. */
export async function everyDisk(migration: Migration, transfer: (disk: DiskState) => Promise<void>): Promise<void> {
  await migration.pause.around(async () => {
    const settled = await Promise.allSettled(migration.disks.map(transfer));
    const failures = settled.filter((result) => result.status === 'rejected').map(({ reason }): unknown => reason);
    // A disk that failed for good counts before those that were only stopped.
    if (failures.length > 0) throw failures.find((reason) => !isStop(reason)) ?? failures[0];
  });
}

async function copyOne(migration: Migration, pass: Pass, disk: DiskState, mayRedo: boolean): Promise<void> {
  if (disk.passes.at(-1)?.pass === pass.name) return;
  // Without a changeId everything is copied, and what the disk holds from before would show in the holes (R8).
  if (disk.changeId === undefined && disk.passes.length > 0 && !pass.renewed.has(disk.deviceKey)) {
    await renew(migration, disk);
    pass.renewed.add(disk.deviceKey);
  }
  try {
    await transferOne(migration, pass, disk);
  } catch (error) {
    if (!mayRedo || failureTypeOf(error) !== 'ChangeTrackingReset') throw error;
    migration.note(`${disk.label}: change tracking was reset, so it is copied in full to a new disk.`);
    delete disk.changeId;
    await copyOne(migration, pass, disk, mayRedo);
  }
}

/** Gives the disk an empty VDI in the place of the one that is doubted. */
async function renew(migration: Migration, disk: DiskState): Promise<void> {
  if (disk.vdiUuid === undefined) throw new Error(`${disk.label} has no target disk`);
  const fresh = await step.replaceTargetDisk({
    ...migration.target,
    targetVmUuid: migration.targetVmUuid,
    vdiUuid: disk.vdiUuid,
    srUuid: migration.input.target.srUuid,
    deviceKey: disk.deviceKey,
    label: `${migration.input.vm} ${disk.label}`,
    capacityBytes: disk.capacityBytes,
    index: migration.disks.indexOf(disk),
  });
  disk.vdiUuid = fresh.vdiUuid;
  disk.vdiSizeBytes = fresh.vdiSizeBytes;
}

async function transferOne(migration: Migration, pass: Pass, disk: DiskState): Promise<void> {
  const input = describeCopy(migration, pass.name, pass.snapshot, disk);
  pass.inputs.set(disk.deviceKey, input);
  const { copyDisk } = transferOn(migration.input.transferQueue);
  const result = await copyDisk.executeWithOptions(
    { activityId: `${pass.name}:${disk.label}`, summary: `${pass.name} of ${disk.label}, ${input.kind}` },
    [input],
  );
  disk.passes.push({
    pass: pass.name,
    kind: input.kind,
    snapshotMoRef: input.snapshotMoRef,
    transport: input.transport,
    ...result,
  });
  migration.refresh();
}

/** From here on the next delta starts at this snapshot: its data is durable on the target (R8). */
export function advance(migration: Migration, snapshot: SourceSnapshot): void {
  for (const disk of migration.disks) {
    const frozen = snapshot.disks.find(({ deviceKey }) => deviceKey === disk.deviceKey);
    if (frozen?.changeId === undefined) delete disk.changeId;
    else disk.changeId = frozen.changeId;
  }
}
