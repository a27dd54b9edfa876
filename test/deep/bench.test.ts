import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

interface Results {
  cases: { id: string; rows: { name: string; rate: number; cpuPerGiB: number; rss: number; sentRatio?: number }[] }[];
}

// Nothing timed: another machine, another figure. A row that fails ends the benchmark with an error.
it('the benchmark runs every row of these cases and gives figures', async () => {
  const args = ['dist/bench/main.js', '--quick', '--json', '--case', 'a', 'b2', 'e', 'g'];
  const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 2 ** 24 });
  const { cases } = JSON.parse(stdout) as Results;
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
