import { setTimeout as sleep } from 'node:timers/promises';
import { failureMessageOf } from '../../shared/index.js';

/** Worth a fresh start of the back-off: it had settled. */
const STEADY_MS = 60_000;
const FIRST_DELAY_MS = 1_000;
const LONGEST_DELAY_MS = 30_000;

/** What can be kept running. */
interface Running {
  ended: Promise<unknown>;
  stop(): Promise<void>;
}

interface KeepOptions<T extends Running> {
  startAgain: () => T | Promise<T>;
  /** What is said of every end that nobody asked for. */
  describe: (end: { ended: T; how: Awaited<T['ended']>; livedMs: number; delayMs: number }) => string;
  say: (text: string) => void;
  /** For tests. */
  firstDelayMs?: number;
}

/** Starts a process again when it dies, waiting longer each time up to half a minute, until it is stopped. */
export function keepRunning<T extends Running>(
  first: T,
  { startAgain, describe, say, firstDelayMs = FIRST_DELAY_MS }: KeepOptions<T>,
): { now(): T; stop(): Promise<void> } {
  let running = first;
  const stopped = new AbortController();
  const isOver = keep();

  async function keep(): Promise<void> {
    let delayMs = firstDelayMs;
    for (;;) {
      const since = Date.now();
      const how = (await running.ended) as Awaited<T['ended']>;
      const livedMs = Date.now() - since;
      if (livedMs > STEADY_MS) delayMs = firstDelayMs;
      for (let isUp = false; !isUp; delayMs = Math.min(delayMs * 2, LONGEST_DELAY_MS)) {
        if (stopped.signal.aborted) return;
        say(describe({ ended: running, how, livedMs, delayMs }));
        await sleep(delayMs, undefined, { signal: stopped.signal }).catch(() => undefined);
        if (stopped.signal.aborted) return;
        try {
          running = await startAgain();
          isUp = true;
        } catch (error) {
          say(failureMessageOf(error));
        }
      }
    }
  }

  return {
    now: () => running,
    async stop() {
      stopped.abort();
      await running.stop();
      await isOver;
      // It may just have been coming up again.
      await running.stop();
    },
  };
}
