import { Context, heartbeat } from '@temporalio/activity';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';

/** Cancellation comes as the answer to a beat. */
const BEAT_MS = 2_000;

/**
 * Wraps every activity of a table: it beats while it runs, so that a dead worker is noticed although the step itself
 * reports nothing, and a cancelled one ends as cancelled whatever error its libraries threw.
 *
 * Steps that finish on their own soon are let finish: undo must not race with an act that is still going on.
 */
export function withBeats<T extends object>(activities: T): T {
  const entries = Object.entries(activities).map(([name, activity]) => [name, beating(activity as Step)]);
  return Object.fromEntries(entries) as T;
}

type Step = (input: unknown) => Promise<unknown>;

function beating(activity: Step): Step {
  return async (input) => {
    const beat = setInterval(() => heartbeat(), BEAT_MS);
    try {
      heartbeat();
      return await activity(input);
    } catch (error) {
      throw explain(error);
    } finally {
      clearInterval(beat);
    }
  };
}

/**
 * What Temporal is told of an error. The cancellation's own reason wins: an `AbortError` of a library would be recorded
 * as a failure, or, while the activity is only paused, be refused by the server (temporal 1.31).
 */
export function explain(error: unknown): unknown {
  const { cancellationSignal } = Context.current();
  if (cancellationSignal.aborted && !(error instanceof ApplicationFailure && error.nonRetryable)) {
    const { reason } = cancellationSignal as { reason: unknown };
    return reason instanceof CancelledFailure ? reason : new CancelledFailure('cancelled');
  }
  return error;
}
