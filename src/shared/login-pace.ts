import { setTimeout as sleep } from 'node:timers/promises';

const MINUTE_MS = 60_000;

/** Lets through so many in any minute and no more, in the order in which they come. */
export class LoginPace {
  readonly #perMinute: number;
  readonly #minuteMs: number;
  /** When the last ones may go, those that still wait included; never decreasing. */
  readonly #turns: number[] = [];

  /** @param minuteMs Another length of the minute, for tests. */
  constructor(perMinute: number, minuteMs = MINUTE_MS) {
    this.#perMinute = perMinute;
    this.#minuteMs = minuteMs;
  }

  /** @throws The signal's reason. A turn that was not waited for counts all the same. */
  async turn(signal?: AbortSignal): Promise<void> {
    const now = performance.now();
    const before = this.#turns.length < this.#perMinute ? undefined : this.#turns.shift();
    const at = Math.max(now, (before ?? -Infinity) + this.#minuteMs);
    this.#turns.push(at);
    if (at > now) await sleep(Math.ceil(at - now), undefined, { signal }).catch(() => undefined);
    signal?.throwIfAborted();
  }
}
