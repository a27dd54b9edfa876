import { NO_TIME, type TimeSpent } from '../shared/time-spent.js';

/** How much of the waiting for a side is the network's just now, 0 to 1; undefined while it cannot be told. */
export type LinkShare = () => number | undefined;

/**
 * Divides what one segment waits for, as it goes on, between each far end and the way there. What nobody can tell yet is
 * divided as soon as somebody can.
 */
export class Division {
  readonly #shares: Record<'read' | 'write', LinkShare>;
  readonly #divided = { read: 0, write: 0 };
  readonly #parts = { readLink: 0, readHost: 0, writeLink: 0, writeHost: 0 };
  readonly #since = performance.eventLoopUtilization();

  constructor(read: LinkShare = () => undefined, write: LinkShare = () => undefined) {
    this.#shares = { read, write };
  }

  /** @param spent Of the segment so far, undivided. */
  of(spent: TimeSpent): TimeSpent {
    for (const side of ['read', 'write'] as const) {
      const share = this.#shares[side]();
      if (share === undefined) continue;
      const grown = spent[side] - this.#divided[side];
      this.#divided[side] = spent[side];
      this.#parts[`${side}Link`] += grown * share;
      this.#parts[`${side}Host`] += grown * (1 - share);
    }
    const { active } = performance.eventLoopUtilization(this.#since);
    return { ...NO_TIME, ...spent, ...this.#parts, busy: active / 1000 };
  }
}
