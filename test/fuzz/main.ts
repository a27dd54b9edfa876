import { Option } from 'commander';
import { numberFrom, program, wholeFrom } from '../../bench/options.js';
import { PEERS, type PeerName } from './peers.js';

// `npm run fuzz -- --seconds 60 --seed 1`: case after case, some at once; ends with 1 at the first finding, whose seed it
// prints. With `--peer xapi` and a seed only that one is met again.

const all = Object.keys(PEERS) as PeerName[];
const {
  seconds,
  seed: first,
  beside,
  peer: peers,
} = program('fuzz', 'Hostile servers, case after case.')
  .option('--seconds <n>', 'how long', numberFrom(1), 60)
  .option('--seed <n>', 'of the first case', wholeFrom(0), Date.now() % 2 ** 31)
  .option('--beside <n>', 'cases at once', wholeFrom(1), 8)
  .addOption(new Option('--peer <names...>', 'only these').choices(all).default(all))
  .parse()
  .opts<{ seconds: number; seed: number; beside: number; peer: PeerName[] }>();
const until = Date.now() + seconds * 1000;
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
await Promise.all(Array.from({ length: beside }, lane));
const peakRssMiB = Math.round(process.resourceUsage().maxRSS / 1024);
process.stdout.write(`${JSON.stringify({ seeds: `${first}-${next - 1}`, ...counts, peakRssMiB })}\n`);
