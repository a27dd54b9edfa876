/**
 * How long the other side may keep us waiting, until what we wait for is complete: a byte now and then does not start the
 * clock anew, and time that we spend elsewhere does not count.
 */
export class Patience {
  readonly #timer: NodeJS.Timeout;
  #waitedMs = 0;
  #since: number | undefined;

  constructor(limitMs: number, onEnd: (error: Error) => void) {
    const look = () => {
      const waitedMs = this.#waitedMs + (this.#since === undefined ? 0 : performance.now() - this.#since);
      if (waitedMs > limitMs) onEnd(new Error(`no progress for ${limitMs} ms`));
    };
    this.#timer = setInterval(look, Math.min(5_000, Math.ceil(limitMs / 4))).unref();
  }

  waits(): void {
    this.#since ??= performance.now();
  }

  /** @param isComplete False: something came, yet it is only a part. */
  moved(isComplete = true): void {
    if (isComplete) this.#waitedMs = 0;
    else if (this.#since !== undefined) this.#waitedMs += performance.now() - this.#since;
    this.#since = undefined;
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
