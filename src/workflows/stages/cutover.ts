import { CancellationScope, isCancellation } from '@temporalio/workflow';
import { failureMessageOf, failureTypeOf, formatBytes, formatDuration } from '../../shared/index.js';
import type { Word } from '../../shared/index.js';
import type { SourceSnapshot } from '../../activities/types.js';
import { step, undoing } from '../activity-options.js';
import { oneOf } from '../gates.js';
import { COMPLETE, FINAL, SOURCE_SNAPSHOTS } from '../names.js';
import { copyDisks, newPass } from '../passes.js';
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
  await step.removeOwnSnapshots({ ...migration.source, names: SOURCE_SNAPSHOTS });
  delete migration.artifacts.cleanSnapshot;
  const snapshot = await step.createSourceSnapshot({
    ...migration.source,
    name: FINAL,
    alone: migration.transport === 'https',
  });
  migration.artifacts.finalSnapshot = snapshot.snapshotMoRef;
  migration.finalSnapshot = snapshot;
  await clearDoubts(run, snapshot);

  // A new name for each try: what an earlier one wrote is covered again, because changeIds have not advanced.
  migration.finalTries += 1;
  const pass = newPass(`final-${migration.finalTries}`, snapshot);
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
async function clearDoubts(run: Run, snapshot: SourceSnapshot): Promise<void> {
  const { migration, gates } = run;
  const plans = await step.planDeltas({
    ...migration.source,
    snapshotMoRef: snapshot.snapshotMoRef,
    disks: migration.disks.map(({ deviceKey, label, capacityBytes, changeId }) => ({
      deviceKey,
      label,
      capacityBytes,
      ...(changeId !== undefined && { sinceChangeId: changeId }),
    })),
  });
  const doubted = migration.disks.filter(
    (disk) => plans.find((p) => p.deviceKey === disk.deviceKey)?.reset !== undefined,
  );
  if (doubted.length === 0) return;
  const bytes = doubted.reduce((sum, disk) => sum + disk.capacityBytes, 0);
  const why = doubted
    .map((disk) => `${disk.label}: ${plans.find((p) => p.deviceKey === disk.deviceKey)?.reset}`)
    .join('; ');
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
