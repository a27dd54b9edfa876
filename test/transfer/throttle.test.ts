import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Throttle, type Clock } from '../../src/transfer/index.js';
import { MiB } from './harness.js';

/** Time that passes when somebody waits, and only then. */
function handTime() {
  let now = 0;
  const waiting: { at: number; wake: () => void }[] = [];
  const clock: Clock = {
    now: () => now,
    sleep: (ms) => new Promise((wake) => waiting.push({ at: now + ms, wake })),
  };
  return {
    clock,
    now: () => now,
    /** Lets time pass until `done` has settled. */
    async until(done: Promise<unknown>): Promise<void> {
      let settled = false;
      const mark = () => (settled = true);
      done.then(mark, mark);
      for (;;) {
        await setImmediate();
        if (settled) return;
        const next = waiting.sort((a, b) => a.at - b.at).shift();
        if (next === undefined) throw new Error('nobody waits, and nothing is done');
        now = Math.max(now, next.at);
        next.wake();
      }
    },
  };
}

const never = new AbortController().signal;

async function move(throttle: Throttle, pieces: number, bytes = 2 * MiB): Promise<void> {
  for (let piece = 0; piece < pieces; piece += 1) await throttle.take(bytes, never);
}

describe('a throttle', () => {
  it('lets pass what its rate says, whatever the size of the pieces', async () => {
    for (const [bytes, pieces] of [
      [2 * MiB, 50],
      [512, 200_000],
    ] as const) {
      const { clock, now, until } = handTime();
      const throttle = new Throttle(() => 10 * MiB, undefined, clock);
      await until(move(throttle, pieces, bytes));
      const seconds = now() / 1000;
      expect((bytes * pieces) / seconds / MiB).toBeGreaterThan(9.5);
      expect((bytes * pieces) / seconds / MiB).toBeLessThan(10.5);
    }
  });

  it('[S143] shares a budget among those who draw from it, each by its own limit', async () => {
    const { clock, now, until } = handTime();
    const host = new Throttle(() => 30 * MiB, undefined, clock);
    const slow = new Throttle(() => 10 * MiB, host, clock);
    const fast = new Throttle(() => Number.POSITIVE_INFINITY, host, clock);
    const done: Record<string, number> = {};
    const slowly = move(slow, 50).then(() => (done['slow'] = now()));
    const fastly = move(fast, 100).then(() => (done['fast'] = now()));
    await until(Promise.all([slowly, fastly]));
    // 100 MiB at 10, 200 MiB at what is left of 30.
    expect(done['slow']).toBeGreaterThan(9_500);
    expect(done['slow']).toBeLessThan(10_500);
    expect(done['fast']).toBeGreaterThan(9_500);
    expect(done['fast']).toBeLessThan(10_500);
  });

  it('[S143] follows a rate that is changed while somebody waits for the old one', async () => {
    const { clock, now, until } = handTime();
    let rate = MiB / 10;
    const throttle = new Throttle(() => rate, undefined, clock);
    await until(throttle.take(2 * MiB, never));
    const waiting = throttle.take(2 * MiB, never);
    rate = 20 * MiB;
    await until(waiting);
    expect(now()).toBeLessThan(500);
  });

  it('saves nothing up while nobody draws', async () => {
    const { clock, now, until } = handTime();
    const throttle = new Throttle(() => 10 * MiB, undefined, clock);
    await until(clock.sleep(60_000));
    await until(move(throttle, 50));
    expect(now() - 60_000).toBeGreaterThan(9_000);
  });

  it('opens when its rate is no longer nothing, and lets go of what was read before', async () => {
    const { clock, now, until } = handTime();
    const throttle = new Throttle(() => (now() < 30_000 ? 0 : MiB), undefined, clock);
    expect(throttle.limit).toBe(0);
    await until(throttle.take(2 * MiB, never));
    expect(now()).toBe(0);
    await until(throttle.opens(never));
    expect(now()).toBe(30_000);
    expect(throttle.limit).toBe(MiB);
  });

  it('ends a wait that is cancelled, and those behind it go on', async () => {
    const { clock, until } = handTime();
    const throttle = new Throttle(() => MiB, undefined, clock);
    await until(throttle.take(8 * MiB, never));
    const stop = new AbortController();
    const cancelled = throttle.take(MiB, stop.signal);
    const behind = throttle.take(MiB, never);
    stop.abort(new Error('paused'));
    await until(cancelled.catch(() => undefined));
    await expect(cancelled).rejects.toThrow('paused');
    await until(behind);
  });
});
