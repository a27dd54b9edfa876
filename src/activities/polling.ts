import { cancellationSignal } from '@temporalio/activity';
import { setTimeout as delay } from 'node:timers/promises';

/**
 * Asks again and again until there is an answer.
 *
 * @returns The first value that is not undefined, or undefined when the time is over.
 * @throws The cancellation's reason when the activity is cancelled.
 */
export async function poll<T>(
  look: () => Promise<T | undefined>,
  { everyMs, timeoutMs = Number.POSITIVE_INFINITY }: { everyMs: number; timeoutMs?: number },
): Promise<T | undefined> {
  const signal = cancellationSignal();
  const until = Date.now() + timeoutMs;
  for (;;) {
    signal.throwIfAborted();
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() + everyMs > until) return undefined;
    await delay(everyMs, undefined, { signal });
  }
}
