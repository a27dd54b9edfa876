import type { Throttle } from './throttle.js';
import type { ReadBack } from './types.js';

/**
 * A read-back that draws from a budget. It begins when something may move; once begun it goes on to its end, for the
 * pool's export cannot be held for hours.
 */
export function throttled(readBack: ReadBack, throttle: Throttle, signal: AbortSignal): ReadBack {
  return async function* (from = 0) {
    await throttle.opens(signal);
    for await (const piece of readBack(from)) {
      await throttle.take(piece.length, signal);
      yield piece;
    }
  };
}
