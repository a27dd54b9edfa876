import { randomInt } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { expect, it } from 'vitest';

const MAIN = fileURLToPath(new URL('../../dist/bench/chaos/main.js', import.meta.url));

it('[D1] a copy whose worker, nbdkit, host and connection die at random ends equal, and sends again what was in flight', async () => {
  const seed = String(randomInt(1_000_000));
  const args = [MAIN, '--runs', '6', '--beside', '6', '--seed', seed, '--json'];
  const { exitCode, stdout, stderr } = await execa(process.execPath, args, { reject: false });
  expect(exitCode, `seed ${seed}\n${stderr}`).toBe(0);
  const found = JSON.parse(stdout) as { equal: number; wrong: string[]; faults: Record<string, number> };
  expect(found).toMatchObject({ equal: 6, wrong: [] });
  expect(Object.values(found.faults).reduce((sum, count) => sum + count, 0)).toBeGreaterThanOrEqual(6);
});
