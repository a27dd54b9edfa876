import { describe, expect, it } from 'vitest';
import { hostileNbd } from './hostile-nbd.js';

const CASES = 120;

describe('hostile peers', () => {
  it('an NBD server that talks nonsense gives right bytes or a typed error, in time', async () => {
    const before = process.memoryUsage.rss();
    const sums = { connected: 0, right: 0, refused: 0 };
    for (let from = 0; from < CASES; from += 20) {
      const cases = await Promise.all(Array.from({ length: 20 }, (_, index) => hostileNbd(20_261_125 + from + index)));
      for (const { connected, right, refused } of cases) {
        sums.connected += Number(connected);
        sums.right += right;
        sums.refused += refused;
      }
    }
    // The seeds lead to all of it: servers that are refused, reads that come right, reads that do not.
    expect(sums.connected).toBeGreaterThan(CASES / 4);
    expect(sums.connected).toBeLessThan(CASES);
    expect(sums.right).toBeGreaterThan(100);
    expect(sums.refused).toBeGreaterThan(100);
    expect(process.memoryUsage.rss() - before).toBeLessThan(200 * 2 ** 20);
  }, 60_000);
});
