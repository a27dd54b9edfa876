import { failureMessageOf, failureTypeOf } from '../shared/index.js';
import type { DiskState } from '../shared/index.js';
import type { CopyDiskInput, SourceSnapshot } from '../activities/types.js';
import { step, transferOn } from './activity-options.js';
import { doubt, refuseResized, startOfDelta } from './deltas.js';
import { isStop } from './pause.js';
import type { Migration } from './state.js';

/** What makes a delta unsafe: the disk is copied in full (R8, R14). */
const DOUBTS = ['ChangeTrackingReset', 'ChangedAreasInvalid', 'PlanChanged'];

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
 * Describes the copy of one disk: a delta where there is something for it to start from, else a full pass. Asked once in
 * a pass, and remembered there: a verification later means the same plan.
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
  const since = startOfDelta(migration, pass, snapshot, disk);
  return {
    source: migration.source,
    target: migration.target,
    disk: { deviceKey: disk.deviceKey, label: disk.label, capacityBytes: disk.capacityBytes, vdiUuid: disk.vdiUuid },
    pass,
    kind: since === undefined ? 'base' : 'delta',
    transport: migration.transport,
    snapshotMoRef: snapshot.snapshotMoRef,
    fileName: frozen.fileName,
    baseFileName: frozen.baseFileName,
    ...(since && { since }),
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
  refuseResized(migration, pass.snapshot);
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
  const { deviceKey } = disk;
  if (!pass.inputs.has(deviceKey)) {
    const start = startOfDelta(migration, pass.name, pass.snapshot, disk);
    // What the disk holds from before would show in the holes of a full pass (R8).
    if (start === undefined && disk.passes.length > 0 && !pass.renewed.has(deviceKey)) {
      if (disk.deltaBy !== 'cbt' && disk.writtenBy !== undefined)
        migration.note(`${disk.label}: ${disk.writtenBy} came to nothing, so it is copied in full to a new disk.`);
      await renew(migration, disk);
      pass.renewed.add(deviceKey);
    }
    pass.inputs.set(deviceKey, describeCopy(migration, pass.name, pass.snapshot, disk));
  }
  try {
    await transferOne(migration, pass, disk);
  } catch (error) {
    const type = failureTypeOf(error);
    const isFull = pass.inputs.get(deviceKey)?.since === undefined;
    // A full pass has nothing left to doubt but what was begun: another transport may have another map of it (R14).
    const mayBeRedone = isFull ? type === 'PlanChanged' && !pass.renewed.has(deviceKey) : DOUBTS.includes(type ?? '');
    if (!mayRedo || !mayBeRedone) throw error;
    const why = type === 'ChangeTrackingReset' ? 'change tracking was reset' : failureMessageOf(error).split('\n')[0];
    migration.note(`${disk.label}: ${why}, so it is copied in full to a new disk.`);
    doubt(disk);
    pass.inputs.delete(deviceKey);
    if (isFull) {
      await renew(migration, disk);
      pass.renewed.add(deviceKey);
    }
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
  const input = pass.inputs.get(disk.deviceKey);
  if (!input) throw new Error(`the copy of ${disk.label} was not described`);
  disk.writtenBy = pass.name;
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
