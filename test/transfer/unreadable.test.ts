import { describe, expect, it } from 'vitest';
import { failureTypeOf } from '../../src/shared/errors.js';
import { copyPass, planWholeDisk, type CopyPassOptions } from '../../src/transfer/index.js';
import { findUnreadable } from '../../src/transfer/unreadable.js';
import { pattern } from '../nbd/nbdkit.js';
import { connectionLost, MemorySource, MemoryStore, MemoryTarget, MiB } from './harness.js';

/** Reads that fail where they touch a bad sector, and how many there were. */
function disk(bad: number[]) {
  const tried = { reads: 0, failed: 0 };
  const tryRead = ({ offset, length }: { offset: number; length: number }) => {
    tried.reads++;
    const comes = !bad.some((sector) => sector * 512 < offset + length && offset < (sector + 1) * 512);
    if (!comes) tried.failed++;
    return Promise.resolve(comes);
  };
  return { tried, tryRead };
}

const block = { offset: 6 * MiB, length: 2 * MiB };
const FIRST = block.offset / 512;
const LAST = FIRST + 4095;

describe('findUnreadable', () => {
  it.each([
    ['the first sector', [FIRST]],
    ['the last sector', [LAST]],
    ['one in the middle', [FIRST + 1234]],
    ['two far apart', [FIRST + 5, LAST - 5]],
    ['a physical sector of 4 KiB', Array.from({ length: 8 }, (_, index) => FIRST + 800 + index)],
  ])('names %s exactly', async (_what, bad) => {
    const { tried, tryRead } = disk(bad);
    const found = await findUnreadable(tryRead, block);
    const sectors = found.flatMap(({ offset, length }) =>
      Array.from({ length: length / 512 }, (_, index) => offset / 512 + index),
    );
    expect(sectors).toEqual(bad);
    expect(tried.reads).toBeLessThan(70);
  });

  it('names the surroundings of a larger hole with a bounded number of reads', async () => {
    const bad = Array.from({ length: 1000 }, (_, index) => FIRST + 1000 + index);
    const { tried, tryRead } = disk(bad);
    const found = await findUnreadable(tryRead, block);
    expect(found).toHaveLength(1);
    const [{ offset, length } = { offset: 0, length: 0 }] = found;
    expect(offset).toBeLessThanOrEqual(1000 * 512 + block.offset);
    expect(offset + length).toBeGreaterThanOrEqual(2000 * 512 + block.offset);
    expect(length).toBeLessThan(1.5 * 1000 * 512);
    expect(tried.reads).toBeLessThan(70);
  });

  it('names nothing that came in pieces, or the second time', async () => {
    const large = await findUnreadable(({ length }) => Promise.resolve(length <= MiB), block);
    expect(large).toEqual([]);
    let left = 5;
    expect(await findUnreadable(() => Promise.resolve(--left < 0), block)).toEqual([]);
  });
});

describe('copyPass', () => {
  const size = 12 * MiB;
  const content = pattern(size);

  async function copy(
    fails: (offset: number, length: number) => boolean | Promise<boolean>,
    changes: Partial<CopyPassOptions> = {},
  ) {
    const source = new MemorySource(content);
    const open = async () => {
      const reader = await source.open();
      return {
        ...reader,
        subject: 'disk [ds] vm/vm.vmdk',
        complaint: () => Promise.resolve('the medium is worn'),
        read: async (offset: number, length: number, buffer: Buffer) => {
          if (await fails(offset, length)) throw connectionLost();
          return reader.read(offset, length, buffer);
        },
      };
    };
    const target = new MemoryTarget(Buffer.alloc(size));
    const store = new MemoryStore();
    const plan = await planWholeDisk('base', size);
    const done = copyPass({
      ...{ plan, pass: 'base', snapshot: 's', checkpoints: store, sink: target, openReader: open },
      ...{
        signal: new AbortController().signal,
        segmentBytes: 4 * MiB,
        reconnect: { attempts: 3, firstDelayMs: 1 },
        ...changes,
      },
    });
    const error = await done.then(
      () => undefined,
      (reason: Error) => reason,
    );
    return { source, target, store, error };
  }

  it('ends at a bad sector with its name, what the source said of it, and nothing in its place', async () => {
    const bad = 6 * MiB + 77 * 512;
    const { error, target, store } = await copy((offset, length) => offset <= bad && bad < offset + length);
    expect(failureTypeOf(error)).toBe('SectorsUnreadable');
    expect(error).toMatchObject({ nonRetryable: true, details: [{ unreadable: [{ offset: bad, length: 512 }] }] });
    const lba = bad / 512;
    expect(error?.message).toContain(
      `disk [ds] vm/vm.vmdk: 1 sector cannot be read: LBA ${lba}-${lba} (bytes ${bad}-${bad + 511}).`,
    );
    expect(error?.message).toContain('nbdkit said: "the medium is worn".');
    expect((await store.load())?.done).toBe(6 * MiB);
    const written = target.puts.flatMap(({ chunks }) => chunks);
    expect(written.some(([offset, length]) => offset <= bad && bad < offset + length)).toBe(false);
  });

  it('names all bad sectors of the rest of the segment at once, and sends nothing from the first of them on', async () => {
    const bad = [2 * MiB + 5 * 512, 2 * MiB + 6 * 512, 5 * MiB, 8 * MiB - 512, 9 * MiB].map((offset) => ({
      offset,
      length: 512,
    }));
    const touches = (offset: number, length: number) =>
      bad.some((one) => offset < one.offset + one.length && one.offset < offset + length);
    const { error, target, store } = await copy(touches, { segmentBytes: 8 * MiB });
    // The last is of the next segment.
    const named = [{ offset: 2 * MiB + 5 * 512, length: 1024 }, bad[2], bad[3]];
    expect(error).toMatchObject({ type: 'SectorsUnreadable', details: [{ unreadable: named }] });
    expect(error?.message).toContain('4 sectors cannot be read: LBA 4101-4102 (bytes ');
    expect((await store.load())?.done).toBe(2 * MiB);
    expect(target.puts.flatMap(({ chunks }) => chunks).map(([offset]) => offset)).toEqual([0]);
  });

  it('looks on for a bounded time, and then names what it has found', async () => {
    const bad = 2 * MiB + 512;
    const never = new Promise<boolean>(() => undefined);
    const { error } = await copy(
      (offset, length) => (offset >= 6 * MiB ? never : offset <= bad && bad < offset + length),
      { segmentBytes: 12 * MiB, lookOnSeconds: 0.2 },
    );
    expect(error).toMatchObject({
      type: 'SectorsUnreadable',
      details: [{ unreadable: [{ offset: bad, length: 512 }] }],
    });
  });

  it('reads in pieces what the source does not give as a whole', async () => {
    const { error, target, source } = await copy((offset, length) => offset === 2 * MiB && length > 256 * 1024);
    expect(error).toBeUndefined();
    expect(target.content.equals(content)).toBe(true);
    expect(source.reads.some(([offset, length]) => offset === 2 * MiB && length === 256 * 1024)).toBe(true);
  });

  it('does not look for bad sectors where nothing at all can be read', async () => {
    let failed = 0;
    const { error } = await copy(() => ++failed > 0);
    expect(failureTypeOf(error)).toBe('SourceReadFailed');
    expect(failed).toBeLessThan(40);
  });
});
