import { describe, expect, it } from 'vitest';
import { PEERS, type PeerName } from './peers.js';

const SEED = 20_261_125;
const BESIDE = 10;

describe('hostile peers', () => {
  it.each<[PeerName, string, cases: number]>([
    ['nbd', 'an NBD server that talks nonsense gives right bytes or a typed error, in time', 120],
    ['nbd-tls', 'so does one in the network, over TLS and with simple replies', 120],
    [
      'xapi',
      'a XAPI host that talks nonsense makes no import count as done that is not, and leaves nobody waiting',
      160,
    ],
  ])(
    '%s: %s',
    async (peer, _title, cases) => {
      const before = process.memoryUsage.rss();
      const sums = { opened: 0, right: 0, refused: 0 };
      let next = 0;
      const lane = async () => {
        while (next < cases) {
          const { opened, right, refused } = await PEERS[peer](SEED + next++);
          sums.opened += Number(opened);
          sums.right += right;
          sums.refused += refused;
        }
      };
      await Promise.all(Array.from({ length: BESIDE }, lane));
      // The seeds lead to all of it: peers that are refused, requests that come right, requests that do not.
      expect(sums.opened).toBeGreaterThan(cases / 4);
      expect(sums.opened).toBeLessThan(cases);
      expect(sums.right).toBeGreaterThan(cases / 5);
      expect(sums.refused).toBeGreaterThan(cases / 5);
      expect(process.memoryUsage.rss() - before).toBeLessThan(200 * 2 ** 20);
    },
    120_000,
  );

  // Each of these was a finding once. A change of what the peers draw from their seeds makes them meaningless.
  it.each<[PeerName, number, found: string]>([
    ['xapi', 59, 'a redirect to what is no address: an error without a type'],
    ['xapi', 31, 'a task that fails without a reason: an error without a type, or an unhandled rejection'],
    ['xapi', 266, 'an export whose first bytes are more than the disk has: they were given out'],
    ['xapi', 21, 'an answer to an import that drips: it was waited for without end'],
    ['xapi', 365, 'a head that drips: likewise'],
    ['xapi', 8, 'a task that changes its mind: it was asked twice, and the second word counted'],
    ['nbd-tls', 23, 'a reply that drips: it was waited for without end'],
  ])('%s, seed %i: %s', async (peer, seed) => {
    await PEERS[peer](seed);
  });
});
