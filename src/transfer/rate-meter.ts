const WINDOW_MS = 5_000;

/** Bytes per second over the last five seconds, from marks at most every half second. */
export class RateMeter {
  readonly #marks: { at: number; bytes: number }[];
  #due = 0;

  constructor(bytes: number) {
    this.#marks = [{ at: performance.now(), bytes }];
  }

  /** True at most twice a second: then it is time to tell someone. */
  isDue(): boolean {
    const now = performance.now();
    if (now < this.#due) return false;
    this.#due = now + 500;
    return true;
  }

  rate(bytes: number): number {
    const now = performance.now();
    this.#marks.push({ at: now, bytes });
    while (this.#marks.length > 2 && (this.#marks[0]?.at ?? now) < now - WINDOW_MS) this.#marks.shift();
    const first = this.#marks[0] ?? { at: now, bytes };
    return now === first.at ? 0 : Math.round(((bytes - first.bytes) / (now - first.at)) * 1000);
  }
}
