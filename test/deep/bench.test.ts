import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

interface Results {
  cases: {
    id: string;
    targets: { what: string; value: number; atLeast?: number; atMost?: number }[];
    rows: { name: string; rate: number; cpuPerGiB: number; rss: number; sentRatio?: number }[];
  }[];
}

async function run(...ids: string[]): Promise<Results['cases']> {
  const args = ['dist/bench/main.js', '--quick', '--json', '--case', ...ids];
  const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 2 ** 24 });
  return (JSON.parse(stdout) as Results).cases;
}

// Nothing timed: another machine, another figure. A row that fails ends the benchmark with an error.
it('the benchmark runs every row of these cases and gives figures', async () => {
  const cases = await run('a', 'b2', 'e', 'g');
  expect(cases.map(({ id }) => id)).toEqual(['a', 'b2', 'e', 'g']);
  for (const { id, rows } of cases) {
    expect(rows.map(({ name }) => name)).toEqual(expect.arrayContaining(['ours', 'ours, no digests', 'C mover']));
    for (const { name, rate, cpuPerGiB, rss, sentRatio } of rows) {
      const figures = [rate, cpuPerGiB, rss];
      expect(
        figures.every((figure) => figure > 0 && Number.isFinite(figure)),
        `(${id}) ${name}: ${figures.join(', ')}`,
      ).toBe(true);
      // The C mover has no zero test.
      const [least, most] = id === 'g' && name.startsWith('ours') ? [0.5, 0.501] : [1, 1.0005];
      if (sentRatio !== undefined) expect(sentRatio).toBeGreaterThanOrEqual(least);
      if (sentRatio !== undefined) expect(sentRatio).toBeLessThanOrEqual(most);
    }
  }
});

it("[S21] [S22] the benchmark sets a nearly empty disk against a full one, and the guide's figures beside the ceiling", async () => {
  const [limits, guide, empty, snapshots] = await run('i', 'j', 'k', 'l');
  expect(limits?.targets.map(({ atLeast, atMost }) => [atLeast, atMost])).toEqual([
    ...[1, 2].flatMap(() => [
      [0.9, undefined],
      [undefined, 1.1],
    ]),
  ]);
  expect(guide?.targets).toMatchObject([
    { what: 'MB/s of one disk', atLeast: 150 },
    { what: 'MB/s of four disks', atLeast: 500 },
    { what: 'MB/s of nbdcopy, which only reads' },
  ]);
  for (const { value } of guide?.targets ?? []) expect(value).toBeGreaterThan(0);
  // Of each what it holds and no more: of the second a hundredth.
  expect(empty?.rows.map(({ name }) => name)).toEqual(['full', '1 % used']);
  for (const { name, sentRatio } of empty?.rows ?? []) expect(sentRatio, name).toBeCloseTo(1, 2);
  expect(snapshots?.rows.map(({ name }) => name)).toEqual(['under 1', 'under 10']);
});
