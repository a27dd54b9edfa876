import { NO_TIME, timeSince } from '../shared/index.js';
import type { TimeSpent } from '../shared/index.js';

const WINDOW_MS = 30_000;

/** What a pass waited for in the last half minute: what is slow now may not be what was slow yesterday. */
export class Lately {
  readonly #marks: { at: number; spent: TimeSpent }[] = [];

  of(spent: TimeSpent): TimeSpent {
    const now = performance.now();
    this.#marks.push({ at: now, spent });
    while ((this.#marks[1]?.at ?? now) < now - WINDOW_MS) this.#marks.shift();
    const before = this.#marks.length > 1 ? this.#marks[0]?.spent : undefined;
    return timeSince(before ?? NO_TIME, spent);
  }
}
