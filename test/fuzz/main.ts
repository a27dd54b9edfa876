import { parseArgs } from 'node:util';
import { PEERS, type PeerName } from './peers.js';

// `npm run fuzz -- --seconds 60 --seed 1`: case after case, some at once; ends with 1 at the first finding, whose seed it
// prints. With `--peer xapi` and a seed only that one is met again.

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    beside: { type: 'string', default: '8' },
    peer: { type: 'string', default: Object.keys(PEERS).join() },
  },
});
const first = Number(values.seed);
const until = Date.now() + Number(values.seconds) * 1000;
const peers = values.peer.split(',') as PeerName[];
const counts = Object.fromEntries(peers.map((peer) => [peer, { cases: 0, opened: 0, right: 0, refused: 0 }]));
const running = new Set<string>();
const found = (what: string, error: unknown) => {
  process.stderr.write(`${what}: ${error instanceof Error ? (error.stack ?? String(error)) : String(error)}\n`);
  process.exit(1);
};
process.on('unhandledRejection', (error) => found(`Unhandled, in one of ${[...running].join(', ')}`, error));

let next = first;
const lane = async () => {
  while (Date.now() < until) {
    const seed = next++;
    for (const peer of peers) {
      const name = `${peer} ${seed}`;
      running.add(name);
      try {
        const { opened, right, refused } = await PEERS[peer](seed);
        const sum = counts[peer];
        if (sum === undefined) continue;
        sum.cases += 1;
        sum.opened += Number(opened);
        sum.right += right;
        sum.refused += refused;
      } catch (error) {
        found(name, error);
      }
      running.delete(name);
    }
  }
};
await Promise.all(Array.from({ length: Number(values.beside) }, lane));
const peakRssMiB = Math.round(process.resourceUsage().maxRSS / 1024);
process.stdout.write(`${JSON.stringify({ seeds: `${first}-${next - 1}`, ...counts, peakRssMiB })}\n`);
