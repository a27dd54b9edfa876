import { setTimeout as sleep } from 'node:timers/promises';

/** A rate may change while somebody waits for it; this is how soon the change counts. */
const LOOK_AGAIN_MS = 250;

/** Time as a throttle sees it: milliseconds, and waiting for them. */
export interface Clock {
  now(): number;
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

const REAL: Clock = { now: () => performance.now(), sleep: (ms, signal) => sleep(ms, undefined, { signal }) };

/**
 * A budget of bytes per second that many may draw from, first come, first served, and whose rate may change at any moment.
 *
 * A draw is never divided: who draws more than there is leaves a debt that the next one waits for, so the average is exact
 * whatever the size of the pieces.
 */
export class Throttle {
  readonly #rate: () => number;
  readonly #parent: Throttle | undefined;
  readonly #clock: Clock;
  /** Bytes that may be drawn at `#at`; negative is a debt. */
  #credit = 0;
  #at: number;
  #queue: Promise<unknown> = Promise.resolve();

  /**
   * @param rate Bytes per second, asked again and again: `Infinity` is no limit, 0 means that nothing may move.
   * @param parent A budget that this one is a part of; every draw counts there too.
   */
  constructor(rate: () => number, parent?: Throttle, clock: Clock = REAL) {
    this.#rate = rate;
    this.#parent = parent;
    this.#clock = clock;
    this.#at = clock.now();
  }

  /** Bytes per second as they are now, the parent's included; 0 while nothing may move. */
  get limit(): number {
    return Math.min(this.#rate(), this.#parent?.limit ?? Number.POSITIVE_INFINITY);
  }

  /**
   * Resolves when these bytes may move. While nothing may move at all it does not wait: the few bytes that were read
   * already leave, so that the request they belong to can end.
   *
   * @throws The signal's reason.
   */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    const turn = this.#queue.then(() => this.#draw(bytes, signal));
    this.#queue = turn.catch(() => undefined);
    await turn;
    await this.#parent?.take(bytes, signal);
  }

  /** Resolves when something may move. @throws The signal's reason. */
  async opens(signal: AbortSignal): Promise<void> {
    while (this.limit === 0) {
      signal.throwIfAborted();
      await this.#clock.sleep(LOOK_AGAIN_MS, signal);
    }
  }

  async #draw(bytes: number, signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      const rate = this.#rate();
      const now = this.#clock.now();
      // Idle time is not saved up beyond a moment, else a burst would follow every pause.
      this.#credit =
        rate === Number.POSITIVE_INFINITY
          ? 0
          : Math.min(this.#credit + (rate * (now - this.#at)) / 1000, (rate * LOOK_AGAIN_MS) / 1000);
      this.#at = now;
      if (this.#credit >= 0 || rate === 0) break;
      await this.#clock.sleep(Math.min(LOOK_AGAIN_MS, Math.ceil((-this.#credit / rate) * 1000)), signal);
    }
    this.#credit -= bytes;
  }
}
