import { CancellationScope, isCancellation } from '@temporalio/workflow';
import { failureMessageOf, failureTypeOf, formatBytes, formatDuration } from '../../shared/index.js';
import type { DiskState, Word } from '../../shared/index.js';
import { step, undoing } from '../activity-options.js';
import { oneOf } from '../gates.js';
import { needsParent, refuseResized, startOfDelta } from '../deltas.js';
import { CLEAN, COMPLETE, FINAL, SOURCE_SNAPSHOTS } from '../names.js';
import { copyDisks, newPass } from '../passes.js';
import type { Pass } from '../passes.js';
import { Ending } from '../run.js';
import type { Run } from '../run.js';
import { now } from '../state.js';
import type { Migration } from '../state.js';
import { takeVerified } from '../verification.js';
import { shutDownSource } from './shutdown.js';

/** A doubted disk is to be copied in full while the source runs. */
class RedoHot extends Error {}

/**
 * Stage 10: the outage. The source is off, what changed is copied, the target starts. A failure before the target has
 * started puts everything back as it was found and returns `back` (R29), or `redo` when a disk has to be copied in
 * full while the source runs (R9); after that it is a rollback (R24).
 */
export async function cutover(run: Run): Promise<'done' | 'back' | 'redo'> {
  const { migration, gates } = run;
  const found = migration.plan.source.powerState;
  migration.undo.push({ kind: 'restoreSourcePower', powerState: found });
  migration.set({
    downtime: { startedAt: now(), budgetSeconds: migration.input.policy.downtimeBudgetSeconds },
  });
  let rollback: Word | undefined;
  const scope = new CancellationScope();
  gates.arm((word) => {
    rollback = word;
    scope.cancel();
  });
  try {
    await scope.run(() => switchOver(run));
    endDowntime(migration);
    return 'done';
  } catch (error) {
    if (isCancellation(error) && !rollback) throw error;
    if (error instanceof Ending) throw error;
    const why = rollback
      ? `${rollback.operator} asked for it: ${rollback.reason ?? 'no reason given'}`
      : failureMessageOf(error);
    if (await mayHoldData(migration))
      throw new Ending('rolled-back', 'RolledBack', `Rolled back after the target had started. ${why}`);
    await putBack(
      migration,
      `${rollback ? 'Rollback' : `Cutover failed (${failureTypeOf(error) ?? 'Unexpected'})`}: ${why}`,
    );
    return error instanceof RedoHot ? 'redo' : 'back';
  } finally {
    gates.arm(undefined);
  }
}

async function switchOver(run: Run): Promise<void> {
  const { migration } = run;
  const at = await shutDownSource(run);
  if (migration.downtime) migration.set({ downtime: { ...migration.downtime, poweredOffAt: at } });
  migration.set({ sourcePower: { found: migration.plan.source.powerState, now: 'poweredOff' } });

  await migration.pause.safePoint();
  // Where deltas are a snapshot's own extents, the one copied last stays until this one is copied (R4).
  const stays = needsParent(migration) && migration.artifacts.cleanSnapshot !== undefined;
  const names = SOURCE_SNAPSHOTS.filter((name) => !stays || name !== CLEAN);
  await step.removeOwnSnapshots({ ...migration.source, names });
  if (!stays) delete migration.artifacts.cleanSnapshot;
  const snapshot = await step.createSourceSnapshot({
    ...migration.source,
    name: FINAL,
    alone: migration.transport === 'https',
  });
  migration.artifacts.finalSnapshot = snapshot.snapshotMoRef;
  migration.finalSnapshot = snapshot;
  // A new name for each try: what an earlier one wrote is covered again, because no delta's start has advanced.
  const pass = newPass(`final-${migration.finalTries + 1}`, snapshot);
  await clearDoubts(run, pass);
  migration.finalTries += 1;
  migration.finalPass = pass;
  await copyDisks(migration, pass, false);
  // Only what changed is looked at inside the outage; the read-back of everything follows in acceptance (R20).
  const taken = await takeVerified(migration, pass, {
    name: COMPLETE,
    scope: 'changed',
    onTaken: (snapshot) => (migration.finalTargetSnapshot = snapshot),
  });
  migration.artifacts.targetSnapshots.push({ name: COMPLETE, ...taken });
  migration.note('The final delta is on the target.', undefined, { disks: sentNow(migration) });

  await migration.pause.safePoint();
  // From here on the target may hold data of its own: it is stopped and kept, never destroyed (R24).
  migration.undo.drop('destroyTarget');
  migration.undo.push({ kind: 'retireTarget', reason: `${migration.id} was rolled back` });
  migration.targetHasRun = true;
  const evidence = await step.startTarget({
    ...migration.target,
    targetVmUuid: migration.targetVmUuid,
    name: migration.input.vm,
    source: migration.source,
    stableSeconds: migration.input.policy.bootStableSeconds,
  });
  migration.set({ targetEvidence: evidence });
  migration.note(`The target ${evidence.booted ? 'runs' : 'was started but did not stay up'}.`, undefined, evidence);
}

/** After the power-off every disk is asked first: what cannot be a delta is a person's decision (R9). */
async function clearDoubts(run: Run, pass: Pass): Promise<void> {
  const { migration, gates } = run;
  const { snapshot } = pass;
  refuseResized(migration, snapshot);
  const doubts = new Map<DiskState, string>();
  const tracked = migration.disks.filter(({ deltaBy }) => deltaBy === undefined || deltaBy === 'cbt');
  if (tracked.length > 0) {
    const plans = await step.planDeltas({
      ...migration.source,
      snapshotMoRef: snapshot.snapshotMoRef,
      disks: tracked.map(({ deviceKey, label, capacityBytes, changeId }) => ({
        deviceKey,
        label,
        capacityBytes,
        ...(changeId !== undefined && { sinceChangeId: changeId }),
      })),
    });
    for (const disk of tracked) {
      const reset = plans.find(({ deviceKey }) => deviceKey === disk.deviceKey)?.reset;
      if (reset !== undefined) doubts.set(disk, reset);
    }
  }
  for (const disk of migration.disks) {
    const why = tracked.includes(disk) ? undefined : doubtOf(migration, pass, disk);
    if (why !== undefined) doubts.set(disk, why);
  }
  const doubted = [...doubts.keys()];
  if (doubted.length === 0) return;
  const bytes = doubted.reduce((sum, disk) => sum + disk.capacityBytes, 0);
  const why = [...doubts].map(([{ label }, reason]) => `${label}: ${reason}`).join('; ');
  const decision = await gates.wait({
    waitingFor: 'decision',
    instruction: `The source is off, but a delta is not safe for ${doubted.length} disks (${why}). Decide: \`full\` copies up to ${formatBytes(bytes)} now, in the outage; \`back\` powers the source on again and returns to cutover approval.`,
    accepts: { decideAfterFailure: oneOf('full', 'back', 'abort') },
  });
  if (decision.name !== 'decideAfterFailure') return;
  if (decision.argument.decision === 'abort')
    throw new Ending('aborted', 'Aborted', `Aborted by ${decision.argument.operator}: ${why}`);
  if (decision.argument.decision === 'back')
    throw new RedoHot(`${decision.argument.operator} chose to copy again while the source runs`);
  for (const disk of doubted) delete disk.changeId;
}

/** Why a disk without change tracking takes longer in this outage than was said before it. */
function doubtOf(migration: Migration, { name, snapshot }: Pass, disk: DiskState): string | undefined {
  const start = startOfDelta(migration, name, snapshot, disk);
  if (start === undefined)
    return `${disk.writtenBy ?? 'an earlier pass'} has written to its target and came to nothing`;
  return start.by === disk.deltaBy
    ? undefined
    : `only a ${start.by} of the whole disk is safe now: the snapshot copied last is not right below this one`;
}

/** Whether the target has run since it was unblocked. What cannot be found out counts as yes (R24). */
async function mayHoldData(migration: Migration): Promise<boolean> {
  if (!migration.targetHasRun) return false;
  const { targetVmUuid, target, input } = migration;
  return CancellationScope.nonCancellable(async () => {
    const { hasRun } = await step
      .withdrawTarget({ ...target, targetVmUuid, name: input.vm, reason: `${migration.id} is not finished` })
      .catch(() => ({ hasRun: true }));
    if (hasRun) return true;
    migration.targetHasRun = false;
    migration.undo.drop('retireTarget');
    migration.undo.push({ kind: 'destroyTarget' });
    return false;
  });
}

/** Before the target has started: the source as found, the base kept (R29). Tried until it is done: the VM is down. */
async function putBack(migration: Migration, why: string): Promise<void> {
  const { powerState } = migration.plan.source;
  await CancellationScope.nonCancellable(async () => {
    // First of all, for this is the outage; what else is left does not hold it up.
    await undoing.restoreSourcePower({
      ...migration.source,
      pool: migration.target.pool,
      powerState,
      targetVmUuid: migration.targetVmUuid,
    });
    migration.undo.drop('restoreSourcePower');
    endDowntime(migration);
    migration.set({ sourcePower: { found: powerState, now: powerState } });
    migration.note(`${why.replace(/\.$/, '')}. The source is ${powerState} again, the base is kept.`);
    await clearAway(migration).catch((error: unknown) =>
      // The next cutover begins with it, and the undo has it as well.
      migration.note(`What the cutover had made is not all gone yet: ${failureMessageOf(error)}`),
    );
  });
}

/** The final snapshots of both sides, of a cutover that came to nothing. */
async function clearAway(migration: Migration): Promise<void> {
  if (migration.finalTargetSnapshot) {
    await undoing.destroyTargetSnapshot({ ...migration.target, snapshotUuid: migration.finalTargetSnapshot.uuid });
    migration.artifacts.targetSnapshots = migration.artifacts.targetSnapshots.filter(({ name }) => name !== COMPLETE);
    delete migration.finalTargetSnapshot;
  }
  await undoing.removeOwnSnapshots({ ...migration.source, names: [FINAL] });
  delete migration.artifacts.finalSnapshot;
}

function endDowntime(migration: Migration): void {
  const { downtime } = migration;
  if (!downtime) return;
  const endedAt = now();
  const seconds = (Date.parse(endedAt) - Date.parse(downtime.startedAt)) / 1000;
  migration.set({ downtime: { ...downtime, endedAt, seconds } });
  if (seconds > downtime.budgetSeconds) {
    migration.note(
      `The outage took ${formatDuration(seconds)}, more than the budget of ${formatDuration(downtime.budgetSeconds)}.`,
    );
  }
}

const sentNow = (migration: Migration): string[] =>
  migration.disks.map(({ label, passes }) => `${label}: ${formatBytes(passes.at(-1)?.bytesSent ?? 0)} sent`);
