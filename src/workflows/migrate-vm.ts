import {
  ApplicationFailure,
  CancellationScope,
  allHandlersFinished,
  condition,
  isCancellation,
} from '@temporalio/workflow';
import { failureMessageOf } from '../shared/index.js';
import type { MigrationInput, MigrationReport } from '../shared/index.js';
import { undoing } from './activity-options.js';
import { Gates } from './gates.js';
import { Ending, perform } from './run.js';
import type { Run } from './run.js';
import { acceptance, finish, kept } from './stages/finish.js';
import { cutover } from './stages/cutover.js';
import { baselineSnapshot, cleanSnapshot, clearSnapshots, preflight, toolsRemoval } from './stages/prepare.js';
import { baseCopy, cutoverApproval, removeTestCopy, testCopy, verification } from './stages/test.js';
import { Migration } from './state.js';

/**
 * One VM through the surefire procedure. Completes with the report when it is migrated; every other end is a failure
 * whose type says which (`RolledBack`, `Aborted`, `NeedsAttention`, `PreflightFailed`) and whose details carry the
 * report, so that Temporal lets the same VM be tried again, and only then.
 */
export async function migrateVm(input: MigrationInput): Promise<MigrationReport> {
  const migration = new Migration(input);
  const gates = new Gates(migration);
  gates.register();
  const run: Run = { migration, gates };
  try {
    await procedure(run);
  } catch (error) {
    return await end(run, asEnding(error, input.vm));
  }
  // Both sides are marked: a cancellation that comes now comes too late.
  return CancellationScope.nonCancellable(async () => {
    const leftovers = await lookForLeftovers(migration);
    migration.set({ outcome: 'migrated', percent: 100, allowed: [], instruction: undefined });
    await condition(allHandlersFinished);
    return migration.report('migrated', leftovers);
  });
}

/** The stages of `design`, in order, and the two ways back. */
async function procedure(run: Run): Promise<void> {
  await perform(run, 'preflight', preflight);
  await perform(run, 'clear-snapshots', clearSnapshots);
  await perform(run, 'baseline-snapshot', baselineSnapshot);
  await perform(run, 'tools-removal', toolsRemoval);
  for (;;) {
    await perform(run, 'clean-snapshot', cleanSnapshot);
    await perform(run, 'base-copy', baseCopy);
    await perform(run, 'test-copy', testCopy);
    const verdict = await perform(run, 'verification', verification);
    await perform(run, 'remove-test-copy', removeTestCopy);
    if (verdict === 'accepted') break;
  }
  for (;;) {
    await perform(run, 'cutover-approval', cutoverApproval);
    const verdict = await perform(run, 'cutover', cutover);
    if (verdict === 'done') break;
    if (verdict === 'redo') {
      // A doubted disk is copied in full while the source runs; the tested state stays tested (R9).
      await perform(run, 'clean-snapshot', cleanSnapshot);
      await perform(run, 'base-copy', baseCopy);
    }
  }
  await perform(run, 'acceptance', acceptance);
  await perform(run, 'finish', finish);
}

function asEnding(error: unknown, vm: string): Ending {
  if (error instanceof Ending) return error;
  if (isCancellation(error)) return new Ending('aborted', 'Aborted', `The migration of ${vm} was cancelled.`);
  return new Ending('attention', 'NeedsAttention', `The migration of ${vm} cannot go on: ${failureMessageOf(error)}`);
}

/** Undoes what was done and fails with the report. Not to be cancelled. */
async function end({ migration, gates }: Run, ending: Ending): Promise<never> {
  return CancellationScope.nonCancellable(async () => {
    gates.arm(undefined);
    migration.pause.end('The pause is over.');
    if (migration.undo.list().length > 0) migration.enter('rolling-back');
    migration.note(ending.message);
    const failed = await migration.undo.runAll();
    if (migration.targetHasRun) migration.note(whatIsKept(migration));
    const found = migration.madeSomething ? await lookForLeftovers(migration) : [];
    const outcome = failed.length > 0 ? 'attention' : ending.outcome;
    migration.set({ outcome, allowed: [], instruction: undefined });
    await condition(allHandlersFinished);
    const leftovers = [...failed, ...found];
    const report = migration.report(outcome, leftovers, ending.message);
    throw ApplicationFailure.nonRetryable(
      [ending.message, ...leftovers.map((leftover) => `Left for you: ${leftover}`)].join('\n'),
      failed.length > 0 ? 'NeedsAttention' : ending.failureType,
      report,
    );
  });
}

/** Deleting it is a word of its own, by somebody who knows what was written to it (R24). */
function whatIsKept({ targetVmUuid, disks }: Migration): string {
  const vdis = disks.map(({ label, vdiUuid }) => `${label} ${vdiUuid}`).join(', ');
  return `Kept on the target: VM ${targetVmUuid} (${vdis}) and its snapshots, with what was written there since the cutover. Delete them when nobody needs that.`;
}

async function lookForLeftovers(migration: Migration): Promise<string[]> {
  const keep = migration.targetHasRun ? kept(migration) : [];
  try {
    return await undoing.listLeftovers({ ...migration.source, ...migration.target, keep });
  } catch (error) {
    const why = failureMessageOf(error).replaceAll('\n', ' ');
    return [`both sides: could not look for what is left. ${why} Look for the mark ${migration.id} by hand.`];
  }
}
