import { isCancellation } from '@temporalio/workflow';
import { failureMessageOf, failureTypeOf } from '../shared/index.js';
import type { FailureType, Outcome, Stage } from '../shared/index.js';
import type { Gates } from './gates.js';
import type { Migration } from './state.js';
import { oneOf } from './gates.js';
import { otherThan, switchTransport } from './transport.js';

/** What every stage works with. */
export interface Run {
  migration: Migration;
  gates: Gates;
}

/** Failures of a copy that the other transport may not have. */
const READING_FAILED: string[] = [
  'HostUnreachable',
  'NbdConnectionLost',
  'NbdkitExited',
  'NoProgress',
  'SectorsUnreadable',
  'SourceBusy',
  'SourceReadFailed',
  'SourceRefused',
  'ThumbprintMismatch',
  'VddkAuthentication',
  'VddkUnavailable',
] satisfies FailureType[];

const ASKS_FIRST: Stage[] = ['tools-removal', 'verification', 'acceptance'];

/** Leaves the sequence of stages: the undo stack runs, and the workflow ends with this outcome. */
export class Ending extends Error {
  readonly outcome: Exclude<Outcome, 'running' | 'migrated'>;
  readonly failureType: 'Aborted' | 'RolledBack' | 'NeedsAttention' | 'PreflightFailed';

  constructor(outcome: Ending['outcome'], failureType: Ending['failureType'], message: string) {
    super(message);
    this.outcome = outcome;
    this.failureType = failureType;
  }
}

/**
 * Runs one stage. When it fails for good, a person decides: weeks of work are never thrown away by a machine. Stages
 * may therefore run twice, and find what they have done already.
 */
export async function perform<T>(run: Run, stage: Stage, act: (run: Run) => Promise<T>): Promise<T> {
  // What a person is asked first needs no resume: the gate holds by itself, and the ways back are open there.
  if (!ASKS_FIRST.includes(stage)) await run.migration.pause.safePoint();
  run.migration.enter(stage);
  for (;;) {
    try {
      return await act(run);
    } catch (error) {
      if (isCancellation(error) || error instanceof Ending) throw error;
      if (stage === 'preflight') throw new Ending('attention', 'PreflightFailed', failureMessageOf(error));
      run.migration.note(`Stage ${stage} failed (${failureTypeOf(error) ?? 'Unexpected'}): ${failureMessageOf(error)}`);
      await decideRetry(run, `Stage ${stage} failed: ${failureMessageOf(error)}`, failureTypeOf(error));
    }
  }
}

/** Returns when the step is to be tried again; ends the migration when the person says so. */
async function decideRetry({ migration, gates }: Run, why: string, type: string | undefined): Promise<void> {
  const mayBeTransport = READING_FAILED.includes(type ?? '');
  const other = mayBeTransport
    ? ` Or read over the other transport: \`surefire transport ${migration.input.vm} ${otherThan(migration.transport)}\`.`
    : '';
  const decision = await gates.wait({
    waitingFor: 'decision',
    instruction: `${why} Decide: \`retry\` when the cause is mended, or \`abort\` to undo everything.${other}`,
    accepts: {
      decideAfterFailure: oneOf('retry', 'abort'),
      ...(mayBeTransport && { switchTransport: (argument) => switchTransport(migration, argument) }),
    },
  });
  if (decision.name === 'decideAfterFailure' && decision.argument.decision === 'abort') {
    throw new Ending('aborted', 'Aborted', `Aborted by ${decision.argument.operator} after a failure. ${why}`);
  }
}
