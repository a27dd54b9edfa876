import { describe, expect, it } from 'vitest';
import { failure, failureTypeOf } from '../../src/shared/errors.js';
import { bottleneckOf, NO_TIME } from '../../src/shared/index.js';
import { Division } from '../../src/transfer/division.js';
import {
  copyPass,
  planFromAreas,
  planWholeDisk,
  Throttle,
  verifyBase,
  type CopyPassOptions,
  type Plan,
  type TransferCounters,
} from '../../src/transfer/index.js';
import { pattern } from '../nbd/nbdkit.js';
import { connectionLost, KiB, MemorySource, MemoryStore, MemoryTarget, MiB } from './harness.js';

const SIZE = 21 * MiB + 512;

interface Setup {
  source: MemorySource;
  target: MemoryTarget;
  store: MemoryStore;
  stop: AbortController;
  options: CopyPassOptions;
}

async function setup(plan?: Plan, changes: Partial<CopyPassOptions> = {}): Promise<Setup> {
  const source = new MemorySource(pattern(SIZE));
  const target = new MemoryTarget(Buffer.alloc(SIZE));
  const store = new MemoryStore();
  const stop = new AbortController();
  return {
    ...{ source, target, store, stop },
    options: {
      plan: plan ?? (await planWholeDisk('base', SIZE)),
      pass: 'base',
      snapshot: 'snap-1',
      openReader: source.open,
      sink: target,
      checkpoints: store,
      signal: stop.signal,
      segmentBytes: 8 * MiB,
      reconnect: { attempts: 3, firstDelayMs: 1 },
      ...changes,
    },
  };
}

async function typeOf(promise: Promise<unknown>): Promise<string | undefined> {
  return promise.then(
    () => 'no failure',
    (error: unknown) => failureTypeOf(error) ?? String(error),
  );
}

describe('copyPass', () => {
  it('copies a disk of odd size in segments, one PUT each, whole chunks in ascending order', async () => {
    const { options, source, target, store } = await setup();
    const result = await copyPass(options);
    expect(target.content.equals(source.content)).toBe(true);
    expect(target.puts.map((put) => [put.segment.from, put.segment.to, put.state])).toEqual([
      [0, 8 * MiB, 'finished'],
      [8 * MiB, 16 * MiB, 'finished'],
      [16 * MiB, SIZE, 'finished'],
    ]);
    expect(target.puts.flatMap((put) => put.chunks).map(([, length]) => length)).toEqual([
      ...Array<number>(10).fill(2 * MiB),
      MiB + 512,
    ]);
    expect(result).toMatchObject({ bytesRead: SIZE, bytesSent: SIZE, bytesPlanned: SIZE, segments: 3, chunks: 11 });
    expect(result.resumedFrom).toBeUndefined();
    expect(store.last).toMatchObject({ done: SIZE, chainDigest: result.chainDigest });
    expect(source.closed).toBe(1);
  });

  it('records a segment before its first byte, and moves on only after its acknowledgement', async () => {
    const { options, target, store } = await setup();
    const story: string[] = [];
    store.onSave = ({ done, attempt }) =>
      story.push(`save ${done / MiB} ${attempt === undefined ? '' : `try ${attempt.to / MiB}`}`.trim());
    target.beforeWrite = (offset) => void (offset % (8 * MiB) === 0 && story.push(`write ${offset / MiB}`));
    target.beforeFinish = () => void story.push('finish');
    await copyPass({ ...options, plan: await planWholeDisk('base', 16 * MiB) });
    expect(story).toEqual([
      'save 0 try 8',
      'write 0',
      'finish',
      'save 8',
      'save 8 try 16',
      'write 8',
      'finish',
      'save 16',
    ]);
  });

  it('[S6] reads and sends nothing but the planned ranges', async () => {
    const areas = [
      { offset: 64 * KiB, length: 64 * KiB },
      { offset: 5 * MiB, length: 3 * MiB },
    ];
    const { options, source, target } = await setup(await planFromAreas('delta', SIZE, areas), { pass: 'delta-1' });
    const result = await copyPass(options);
    expect(source.reads.toSorted(([a], [b]) => a - b)).toEqual([
      [64 * KiB, 64 * KiB],
      [5 * MiB, MiB],
      [6 * MiB, 2 * MiB],
    ]);
    expect(result.bytesSent).toBe(3 * MiB + 64 * KiB);
    expect(target.content.subarray(0, 64 * KiB).every((byte) => byte === 0)).toBe(true);
  });

  it('keeps blocks of zeroes off the wire in a base, and sends them in a delta', async () => {
    const { options, source, target } = await setup();
    source.content.fill(0, 2 * MiB + 512 * KiB, 3 * MiB);
    source.content.fill(0, 6 * MiB, 12 * MiB);
    source.content.fill(0, 512, MiB - 512); // Holds a whole block of zeroes as well, but its neighbours do not.
    const base = await copyPass(options);
    expect(target.content.equals(source.content)).toBe(true);
    expect(base.bytesRead - base.bytesSent).toBe(512 * KiB + 6 * MiB);
    expect(target.puts.flatMap((put) => put.chunks)).toContainEqual([3 * MiB, MiB]);

    const old = new MemoryTarget(pattern(SIZE, 99));
    const plan = await planWholeDisk('delta', SIZE);
    const delta = await copyPass({ ...options, plan, pass: 'delta-1', sink: old, checkpoints: new MemoryStore() });
    expect(delta.bytesSent).toBe(SIZE);
    expect(old.content.equals(source.content)).toBe(true);
    expect(delta.chainDigest).toBe(base.chainDigest);
  });

  it.each([
    ['of 4 KiB', 4 * KiB, 8],
    ['of 64 KiB', 64 * KiB, 4],
    ['of 192 KiB', 192 * KiB, 1],
  ])('has several small chunks under way at once, never many bytes: %s', async (_what, length, most) => {
    const areas = Array.from({ length: 60 }, (_, index) => ({ offset: index * 256 * KiB, length }));
    const { options, source, target } = await setup(await planFromAreas('delta', SIZE, areas), { segmentBytes: SIZE });
    // Slower than the source: more would pile up if anything let it.
    target.beforeWrite = () => new Promise(setImmediate);
    const result = await copyPass(options);
    expect(result).toMatchObject({ segments: 1, chunks: target.puts[0]?.chunks.length, bytesSent: 60 * length });
    for (const { offset } of areas) {
      const [sent, read] = [target, source].map(({ content }) => content.subarray(offset, offset + length));
      expect(sent?.equals(read as Buffer), `at ${offset}`).toBe(true);
    }
    expect(target.most.chunks).toBe(most);
    expect(target.most.bytes).toBeLessThanOrEqual(256 * KiB);
  });

  it('gives the same result without sending anything when it is run again after the end', async () => {
    const { options, target } = await setup();
    const first = await copyPass(options);
    const puts = target.puts.length;
    const second = await copyPass(options);
    expect(target.puts.length).toBe(puts);
    expect(second).toEqual({ ...first, resumedFrom: SIZE });
  });

  it('copies nothing, but says so durably, when nothing is planned', async () => {
    const { options, store, target } = await setup(await planFromAreas('delta', SIZE, []));
    expect(await copyPass(options)).toMatchObject({ bytesPlanned: 0, segments: 0 });
    expect(store.last).toMatchObject({ done: 0, plannedBytes: 0 });
    expect(target.puts).toEqual([]);
  });

  it('reports progress that ends at the total', async () => {
    const seen: TransferCounters[] = [];
    const { options } = await setup(undefined, { onProgress: (counters) => seen.push(counters) });
    await copyPass(options);
    expect(seen.at(-1)).toMatchObject({ bytesDone: SIZE, bytesTotal: SIZE });
    expect(seen.at(-1)?.bytesPerSecond).toBeGreaterThan(0);
  });

  it('uses a fixed number of buffers, however slow the target is', async () => {
    const { options, source, target } = await setup(undefined, { depth: 4 });
    let begun = 0;
    let written = 0;
    let most = 0;
    source.beforeRead = () => void (most = Math.max(most, ++begun - written));
    target.beforeWrite = () => new Promise((resolve) => setImmediate(() => setImmediate(() => (written++, resolve()))));
    await copyPass(options);
    expect(most).toBeLessThanOrEqual(4 + 2);
    expect(most).toBeGreaterThan(3);
  });

  it('[S147] ends a PUT that takes too long, and goes on with the next', async () => {
    const { options, source, target } = await setup(undefined, { segmentSeconds: 0, depth: 1 });
    await copyPass(options);
    expect(target.puts.length).toBe(11);
    expect(target.puts.every((put) => put.state === 'finished')).toBe(true);
    expect(target.content.equals(source.content)).toBe(true);
  });
});

describe('copyPass after a failure', () => {
  it('sends a broken segment again from its start, literally, and the disks are equal', async () => {
    const { options, source, target, store } = await setup();
    source.content.fill(0, 8 * MiB, 12 * MiB);
    // The receiver leaves a stale tail inside the announced chunk, on bytes that are zero in the source.
    target.beforeWrite = (offset) => {
      if (offset < 12 * MiB) return;
      target.content.fill(0xaa, 9 * MiB, 10 * MiB);
      throw failure('ImportDoubtful', { what: 'Cut.' });
    };
    expect(await typeOf(copyPass(options))).toBe('ImportDoubtful');
    expect(target.puts.at(-1)?.state).toBe('aborted');
    expect(store.last).toMatchObject({ done: 8 * MiB, attempt: { from: 8 * MiB, to: 16 * MiB } });

    target.beforeWrite = () => undefined;
    const before = target.puts.length;
    const result = await copyPass({ ...options, segmentBytes: 2 * MiB });
    expect(target.puts[before]?.chunks).toEqual([8, 10, 12, 14].map((at) => [at * MiB, 2 * MiB]));
    expect(target.content.equals(source.content)).toBe(true);
    expect(result.resumedFrom).toBe(8 * MiB);
    expect(result.chainDigest).toBe((await copyPass({ ...options, checkpoints: new MemoryStore() })).chainDigest);
  });

  it('does the same after a lost acknowledgement', async () => {
    const { options, source, target, store } = await setup();
    source.content.fill(0, 0, 8 * MiB);
    target.beforeFinish = () => {
      throw failure('ImportDoubtful', { what: 'Task unknown.' });
    };
    expect(await typeOf(copyPass(options))).toBe('ImportDoubtful');
    expect(store.last.done).toBe(0);
    target.beforeFinish = () => undefined;
    await copyPass(options);
    expect(target.puts[1]?.chunks.length).toBe(4);
    expect(target.content.equals(source.content)).toBe(true);
  });

  it('need not send zeroes when the PUT had not even been opened', async () => {
    const { options, source, store } = await setup();
    source.content.fill(0);
    const closed = { open: () => Promise.reject(failure('ConnectionFailed', { what: 'Refused.' })) };
    expect(await typeOf(copyPass({ ...options, sink: closed }))).toBe('ConnectionFailed');
    expect(store.last.attempt).toBeUndefined();
    expect((await copyPass(options)).bytesSent).toBe(0);
  });

  it('refuses to go on with another plan or another snapshot', async () => {
    const { options, target, source } = await setup();
    target.beforeWrite = () => {
      throw failure('ImportDoubtful', { what: 'Cut.' });
    };
    await typeOf(copyPass(options));
    expect(await typeOf(copyPass({ ...options, snapshot: 'snap-2' }))).toBe('PlanChanged');
    expect(await typeOf(copyPass({ ...options, plan: await planWholeDisk('base', SIZE - 512) }))).toBe('PlanChanged');
    expect(await typeOf(copyPass({ ...options, pass: 'delta-1', plan: await planWholeDisk('delta', SIZE) }))).toBe(
      'PlanChanged',
    );
    // A delta from the last complete changeId covers what the unfinished one announced (R8).
    target.beforeWrite = () => undefined;
    const plan = await planWholeDisk('delta', SIZE);
    await copyPass({ ...options, pass: 'delta-2', snapshot: 'snap-3', plan, coversUnfinished: true });
    expect(target.content.equals(source.content)).toBe(true);
  });

  it('begins the next pass after a complete one', async () => {
    const { options, store } = await setup();
    await copyPass(options);
    const plan = await planFromAreas('delta', SIZE, [{ offset: 0, length: 64 * KiB }]);
    const result = await copyPass({ ...options, pass: 'delta-1', snapshot: 'snap-2', plan });
    expect(result).toMatchObject({ bytesPlanned: 64 * KiB, segments: 1 });
    expect(store.last.pass).toBe('delta-1');
  });

  it('refuses a source that is smaller than the plan', async () => {
    const { options } = await setup(await planWholeDisk('base', SIZE + 512));
    expect(await typeOf(copyPass(options))).toBe('PlanChanged');
  });
});

describe('copyPass and pauses', () => {
  it('[S14] ends the PUT properly between chunks, keeps what was sent, and goes on there with the same digest', async () => {
    const whole = await setup();
    const expected = await copyPass(whole.options);
    const { options, source, target, store, stop } = await setup();
    target.beforeWrite = (offset) => void (offset === 12 * MiB && stop.abort(new Error('paused')));
    expect(await typeOf(copyPass(options))).toContain('paused');
    expect(target.puts.map((put) => put.state)).toEqual(['finished', 'finished']);
    expect(store.last).toMatchObject({ done: 14 * MiB });
    expect(store.last.attempt).toBeUndefined();

    target.beforeWrite = () => undefined;
    const result = await copyPass({ ...options, signal: new AbortController().signal });
    expect(target.content.equals(source.content)).toBe(true);
    expect(result.chainDigest).toBe(expected.chainDigest);
    expect(result).toMatchObject({ resumedFrom: 14 * MiB, bytesRead: SIZE });
    const { plan } = options;
    const { chainDigest } = result;
    const verified = await verifyBase({ plan, chainDigest, targetSizeBytes: SIZE, readBack: target.readBack });
    expect(verified.bytesChecked).toBe(SIZE);
  });

  it('does not wait for a read that hangs', async () => {
    const { options, source, target, store, stop } = await setup();
    source.beforeRead = (offset) =>
      offset === 4 * MiB ? new Promise(() => setTimeout(() => stop.abort(new Error('paused')), 50)) : undefined;
    expect(await typeOf(copyPass(options))).toContain('paused');
    expect(target.puts.at(-1)?.state).toBe('finished');
    expect(store.last).toMatchObject({ done: 4 * MiB });
  });

  it('leaves in doubt what an earlier attempt announced beyond the pause', async () => {
    const { options, source, target, store, stop } = await setup();
    source.content.fill(0, 4 * MiB, 8 * MiB);
    target.beforeFinish = () => {
      throw failure('ImportDoubtful', { what: 'Cut.' });
    };
    await typeOf(copyPass(options));
    target.beforeFinish = () => undefined;
    target.beforeWrite = (offset) => void (offset === 0 && stop.abort(new Error('paused')));
    expect(await typeOf(copyPass(options))).toContain('paused');
    expect(store.last).toMatchObject({ done: 2 * MiB, attempt: { from: 2 * MiB, to: 8 * MiB } });
    target.beforeWrite = () => undefined;
    await copyPass({ ...options, signal: new AbortController().signal });
    expect(target.puts[2]?.chunks).toEqual([2, 4, 6].map((at) => [at * MiB, 2 * MiB]));
  });

  it('is still a pause when the acknowledgement fails, and the whole segment stays in doubt', async () => {
    const { options, target, store, stop } = await setup();
    target.beforeWrite = () => stop.abort(new Error('paused'));
    target.beforeFinish = () => {
      throw failure('ImportDoubtful', { what: 'Cut.' });
    };
    expect(await typeOf(copyPass(options))).toContain('paused');
    expect(store.last).toMatchObject({ done: 0, attempt: { from: 0, to: 8 * MiB } });
  });

  it('does nothing when it is paused before it begins', async () => {
    const { options, source, stop } = await setup();
    stop.abort(new Error('paused'));
    expect(await typeOf(copyPass(options))).toContain('paused');
    expect(source.opened).toBe(0);
  });
});

describe('copyPass and a source that fails', () => {
  it('reads on over a new connection within the same PUT', async () => {
    const { options, source, target } = await setup();
    const failed = new Set<number>();
    source.beforeRead = (offset) => {
      if (offset % (6 * MiB) !== 0 || failed.has(offset)) return;
      failed.add(offset);
      throw connectionLost();
    };
    await copyPass(options);
    expect(source.opened).toBeGreaterThan(1);
    expect(source.closed).toBe(source.opened);
    expect(target.puts.map((put) => put.state)).toEqual(['finished', 'finished', 'finished']);
    expect(target.content.equals(source.content)).toBe(true);
  });

  it('keeps what was sent and fails retryably when it gives up', async () => {
    const { options, source, target, store } = await setup();
    let gone = false;
    source.beforeRead = (offset) => {
      gone ||= offset >= 10 * MiB;
      if (gone) throw connectionLost();
    };
    expect(await typeOf(copyPass(options))).toBe('SourceReadFailed');
    expect(target.puts.at(-1)?.state).toBe('finished');
    expect(store.last).toMatchObject({ done: 10 * MiB });
    expect(store.last.attempt).toBeUndefined();
  });

  it('never repeats a refused login', async () => {
    const { options } = await setup();
    let logins = 0;
    const openReader = () => {
      logins++;
      return Promise.reject(failure('VddkAuthentication', { what: 'Wrong password.' }));
    };
    expect(await typeOf(copyPass({ ...options, openReader }))).toBe('VddkAuthentication');
    expect(logins).toBe(1);
  });
});

describe('a throttle', () => {
  it('[S144] ends the PUT at a checkpoint when nothing may move any more, and the pass goes on when it may', async () => {
    let limit = Number.POSITIVE_INFINITY;
    const throttle = new Throttle(() => limit);
    const { options, source, target, store } = await setup(undefined, { throttle, segmentBytes: 64 * MiB });
    let reads = 0;
    source.beforeRead = () => {
      reads += 1;
      if (reads === 3) limit = 0;
    };
    const pass = copyPass(options);
    await expect.poll(() => target.puts[0]?.state).toBe('finished');
    const { done, attempt } = store.last;
    expect(done).toBeGreaterThan(0);
    expect(done).toBeLessThan(SIZE);
    expect(attempt).toBeUndefined();
    expect(target.puts).toHaveLength(1);
    limit = Number.POSITIVE_INFINITY;
    await pass;
    expect(target.content.equals(source.content)).toBe(true);
    expect(target.puts.map(({ segment }) => segment.from).slice(0, 2)).toEqual([0, done]);
  });

  it('divides the budget of a host among its disks, each of which may have less', async () => {
    const drawn: number[] = [];
    // Without waiting: what is drawn is what counts, the pace itself is shown with a clock of our own.
    class Counting extends Throttle {
      override take(bytes: number): Promise<void> {
        drawn.push(bytes);
        return Promise.resolve();
      }
    }
    const host = new Counting(() => 100 * MiB);
    const one = await setup(undefined, { throttle: new Throttle(() => Number.POSITIVE_INFINITY, host) });
    const other = await setup(undefined, { throttle: new Throttle(() => 50_000 * MiB, host) });
    await Promise.all([copyPass(one.options), copyPass(other.options)]);
    expect(drawn.reduce((sum, bytes) => sum + bytes, 0)).toBe(2 * SIZE);
  });

  it('is waited for no longer when the pass is paused', async () => {
    const throttle = new Throttle(() => 1024);
    const { options, stop, store } = await setup(undefined, { throttle });
    store.onSave = ({ attempt }) => attempt && setTimeout(() => stop.abort(new Error('paused')), 20);
    await expect(copyPass(options)).rejects.toThrow('paused');
    expect(store.last.attempt).toBeUndefined();
  });
});

describe('the time of a pass', () => {
  const slow = () => new Promise<void>((resolve) => setTimeout(resolve, 200));

  it('[S132] is told by what was waited for: the source, the target, or the limit', async () => {
    const bottleneck = async (prepare: (s: Setup) => void, changes: Partial<CopyPassOptions> = {}) => {
      const made = await setup(undefined, { depth: 1, ...changes });
      prepare(made);
      const { spent, seconds } = await copyPass(made.options);
      expect(spent.read + spent.write + spent.digest + spent.limit).toBeLessThanOrEqual(seconds);
      expect(made.store.last.spent).toEqual(spent);
      // Also when nothing is left to do: whoever asks again is told the same.
      expect((await copyPass(made.options)).spent).toEqual(spent);
      return bottleneckOf(spent);
    };
    expect(await bottleneck(({ source }) => (source.beforeRead = slow))).toBe('ESXi host or its link');
    expect(await bottleneck(({ target }) => (target.beforeWrite = slow))).toBe('XCP-ng host or its link');
    // Nothing but the host is waited for once everything was sent.
    const finishing = () => slow().then(slow).then(slow);
    expect(await bottleneck(({ target }) => (target.beforeFinish = finishing))).toBe('XCP-ng host');
    expect(await bottleneck(() => undefined, { throttle: new Throttle(() => 8 * MiB) })).toBe('limit');
  });

  it('is divided between each far end and the way there, as soon as that can be told', async () => {
    let share: number | undefined;
    const division = new Division(() => share);
    const spent = { ...NO_TIME, read: 2, write: 1 };
    expect(division.of(spent)).toMatchObject({ readLink: 0, readHost: 0, read: 2, write: 1 });
    share = 1;
    expect(division.of({ ...spent, read: 3 })).toMatchObject({ readLink: 3, readHost: 0 });
    share = 0.25;
    expect(division.of({ ...spent, read: 7 })).toMatchObject({ readLink: 4, readHost: 3, writeLink: 0, writeHost: 0 });
    const told = await setup(undefined, { depth: 1 });
    told.target.beforeWrite = slow;
    told.target.linkShare = 1;
    expect(bottleneckOf((await copyPass(told.options)).spent)).toBe('link to XCP-ng');
  });

  it('[S141] is the processor of this host when its thread waits for nobody', () => {
    const spent = { ...NO_TIME, read: 3, write: 5, digest: 1, writeHost: 5 };
    expect(bottleneckOf({ ...spent, busy: 5 })).toBe('XCP-ng host');
    expect(bottleneckOf({ ...spent, busy: 8.5 })).toBe('this host');
    expect(bottleneckOf({ ...spent, digest: 6 })).toBe('this host');
    expect(bottleneckOf(NO_TIME)).toBeUndefined();
  });

  it('goes on where an earlier run of the pass was stopped', async () => {
    const { options, source, stop, store } = await setup(undefined, { depth: 1 });
    source.beforeRead = slow;
    store.onSave = ({ done }) => done > 0 && stop.abort(new Error('paused'));
    await expect(copyPass(options)).rejects.toThrow('paused');
    const before = store.last.spent.read;
    expect(before).toBeGreaterThan(0);
    const told: number[] = [];
    const { spent } = await copyPass({
      ...options,
      signal: new AbortController().signal,
      onProgress: (counters) => told.push(counters.spent.read),
    });
    expect(told[0]).toBe(before);
    expect(spent.read).toBeGreaterThan(before);
  });
});
