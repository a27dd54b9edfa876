import { counted } from '../shared/index.js';
import type { Paused } from '../shared/index.js';
import { step } from './activity-options.js';
import { needsParent } from './deltas.js';
import { BASELINE, CLEAN } from './names.js';
import type { Migration } from './state.js';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** When a snapshot taken for people to think has stood long enough, counted from now, in milliseconds since 1970 (R5). */
export const deadlineOf = ({ input }: Migration): number => Date.now() + input.policy.snapshotHours * HOUR_MS;

/**
 * What is due next of our snapshots on the source while nothing else goes on (R5): the baseline goes before it is copied
 * from, the clean snapshot when its pass is complete. What an unfinished pass reads stays, and is warned about each day.
 */
export function nextOnClock(
  migration: Migration,
  paused: Paused,
): { atMs: number; act: () => Promise<void> } | undefined {
  const { baselineSnapshot, cleanSnapshot, finalSnapshot } = migration.artifacts;
  const { cleanSnapshotDeadlineMs, baselineDeadlineMs, pass } = migration;
  const why = `because its time was over (${migration.input.policy.snapshotHours} h)`;
  const mayGo = cleanSnapshotDeadlineMs !== undefined && pass === undefined && !needsParent(migration);
  if (cleanSnapshot !== undefined && mayGo)
    return { atMs: cleanSnapshotDeadlineMs, act: () => removeCleanSnapshot(migration, why) };
  if (baselineSnapshot !== undefined && cleanSnapshot === undefined && baselineDeadlineMs !== undefined)
    return { atMs: baselineDeadlineMs, act: () => removeBaselineSnapshot(migration, why) };
  const standing = [baselineSnapshot, cleanSnapshot, finalSnapshot].filter((moRef) => moRef !== undefined).length;
  if (standing === 0) return undefined;
  const days = 1 + Math.floor((Date.now() - Date.parse(paused.at)) / DAY_MS);
  return {
    atMs: Date.parse(paused.at) + days * DAY_MS,
    act: async () =>
      migration.note(
        `Paused for ${counted(days, 'day')}: ${counted(standing, 'snapshot')} of ours on the source cannot go before the pass is finished, and grow. Resume, or cancel.`,
      ),
  };
}

/** The clean snapshot goes when the test is accepted, or when its time is over; unless the next delta is its child's own extents (R5). */
export async function removeCleanSnapshot(migration: Migration, why: string): Promise<void> {
  if (migration.artifacts.cleanSnapshot === undefined) return;
  if (needsParent(migration)) {
    return migration.note(
      `"${CLEAN}" would be removed ${why}, but stays until the next snapshot is copied: without change tracking, that one's own extents are what changed. It grows; watch the datastore.`,
    );
  }
  await step.removeOwnSnapshots({ ...migration.source, names: [CLEAN] });
  delete migration.artifacts.cleanSnapshot;
  migration.note(`"${CLEAN}" was removed ${why}; the next delta starts from its changeIds all the same.`);
}

export async function removeBaselineSnapshot(migration: Migration, why: string): Promise<void> {
  if (migration.artifacts.baselineSnapshot === undefined) return;
  await step.removeOwnSnapshots({ ...migration.source, names: [BASELINE] });
  delete migration.artifacts.baselineSnapshot;
  migration.note(`"${BASELINE}" was removed ${why}.`);
}
