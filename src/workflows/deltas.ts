import { counted, deltaWords, failure, formatBytes } from '../shared/index.js';
import type { DiskState, Finding } from '../shared/index.js';
import type { CopyDiskInput, SourceSnapshot } from '../activities/types.js';
import type { Migration } from './state.js';

/**
 * Chooses where each disk's deltas come from, once the clean snapshot shows whether its changes are tracked (R4): else
 * the extents of the snapshot alone, where they are reported, else a comparison with what the target holds.
 */
export function chooseDeltas(migration: Migration, { disks: frozen }: SourceSnapshot): void {
  const { source } = migration.plan;
  const untracked: DiskState[] = [];
  for (const disk of migration.disks) {
    delete disk.untracked;
    if (frozen.find(({ deviceKey }) => deviceKey === disk.deviceKey)?.changeId !== undefined) {
      disk.deltaBy = 'cbt';
      continue;
    }
    const obstacle = source.disks.find(({ deviceKey }) => deviceKey === disk.deviceKey)?.singleLinkObstacle;
    disk.deltaBy = obstacle === undefined ? 'single-link' : 'compare';
    const why = source.withoutChangeTracking ?? 'change tracking is on, but has no effect on it';
    disk.untracked = obstacle === undefined ? why : `${why}; ${obstacle}`;
    untracked.push(disk);
  }
  if (untracked.length === 0) return;
  const methods = untracked.map((disk) => `${disk.label}: ${deltaWords(disk)}`);
  migration.note(`Deltas of ${counted(untracked.length, 'disk')} are found without change tracking.`, undefined, {
    methods,
  });
  if (source.withoutChangeTracking !== undefined) return;
  const others = migration.findings.filter(({ code }) => code !== 'V5');
  migration.set({ findings: [...others, ...untracked.map((disk) => noEffect(migration, disk))] });
}

function noEffect({ input }: Migration, { label, deltaBy }: DiskState): Finding {
  return {
    code: 'V5',
    severity: 'warning',
    object: `${input.vm}: ${label}`,
    observed: `Change tracking is on, but the disk has no changeId; its deltas are found by ${deltaBy}.`,
    expected: 'a changeId in the clean snapshot',
    remedy: 'look at `ctkEnabled` of the disk in the advanced configuration of the VM, or accept the slower way.',
  };
}

/**
 * What the next delta of a disk starts from; undefined where only a full pass is safe (R8).
 *
 * What a pass that came to nothing has written to the target disk is seen by change tracking alone. A comparison looks at
 * the last verified snapshot, not at the disk; and single-link knows nothing of what a revert has taken back since. It also
 * needs the snapshot that was copied last right below.
 */
export function startOfDelta(
  migration: Migration,
  pass: string,
  { parentMoRef }: Pick<SourceSnapshot, 'parentMoRef'>,
  disk: DiskState,
): CopyDiskInput['since'] {
  const { changeId, copiedSnapshot, deltaBy, writtenBy, deviceKey } = disk;
  if (changeId !== undefined) return { by: 'cbt', changeId };
  if (deltaBy === undefined || deltaBy === 'cbt' || copiedSnapshot === undefined) return undefined;
  if (writtenBy !== undefined && writtenBy !== pass) return undefined;
  if (needsParent(migration) && deltaBy === 'single-link' && parentMoRef === copiedSnapshot && hasMap(disk))
    return { by: 'single-link' };
  const vdiUuid = migration.verifiedSnapshot?.disks.find((verified) => verified.deviceKey === deviceKey)?.vdiUuid;
  return vdiUuid === undefined ? undefined : { by: 'compare', vdiUuid };
}

const hasMap = ({ passes }: DiskState) => passes.some(({ deltaMethod }) => deltaMethod === 'map');

/** Nothing that the disk holds, on either side, is a start for a delta any more: the next pass is a full one (R8). */
export function doubt(disk: DiskState): void {
  delete disk.changeId;
  delete disk.copiedSnapshot;
}

/** From here on the next delta starts at this snapshot: its data is durable on the target, and verified (R8). */
export function advance(migration: Migration, snapshot: SourceSnapshot): void {
  for (const disk of migration.disks) {
    const frozen = snapshot.disks.find(({ deviceKey }) => deviceKey === disk.deviceKey);
    if (frozen?.changeId === undefined) delete disk.changeId;
    else disk.changeId = frozen.changeId;
    disk.copiedSnapshot = snapshot.snapshotMoRef;
    delete disk.writtenBy;
  }
}

/** The snapshot copied last has to stay below the next one (R5): where deltas come from that one's own extents. */
export const needsParent = ({ disks, transport }: Pick<Migration, 'disks' | 'transport'>): boolean =>
  transport === 'vddk' && disks.some(({ deltaBy }) => deltaBy === 'single-link');

/** What there is to say before the outage of disks without change tracking; empty where there are none. */
export function untrackedInOutage({ disks }: Migration): string {
  const untracked = disks.filter(({ deltaBy }) => deltaBy !== undefined && deltaBy !== 'cbt');
  const written = untracked.filter(({ writtenBy }) => writtenBy !== undefined);
  const compared = untracked.filter((disk) => disk.deltaBy === 'compare' && !written.includes(disk));
  const bytes = (some: DiskState[]) => formatBytes(some.reduce((sum, { capacityBytes }) => sum + capacityBytes, 0));
  return [
    compared.length > 0 &&
      ` Without change tracking ${counted(compared.length, 'disk')} with ${bytes(compared)} will be read whole in the outage, and compared.`,
    written.length > 0 &&
      ` A cutover that came to nothing has written to ${counted(written.length, 'disk')} with ${bytes(written)}: once the source is off you are asked whether to copy in full then (\`full\`), or while it runs again (\`back\`).`,
  ]
    .filter((text) => text !== false)
    .join('');
}

/** @throws NeedsAttention when a disk has another size than the one that was prepared for. */
export function refuseResized(migration: Migration, { disks: frozen }: SourceSnapshot): void {
  for (const { deviceKey, label, capacityBytes } of migration.disks) {
    const now = frozen.find((disk) => disk.deviceKey === deviceKey)?.capacityBytes;
    if (now === undefined || now === capacityBytes) continue;
    throw failure('NeedsAttention', {
      what: `${label} of ${migration.input.vm} has ${formatBytes(now)} now; it had ${formatBytes(capacityBytes)} when the migration began.`,
      why: 'The target disk was made for that size, and what lies beyond it would be lost.',
      next: 'cancel the migration and start it again.',
    });
  }
}
