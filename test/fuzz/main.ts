import { parseArgs } from 'node:util';
import { hostileNbd } from './hostile-nbd.js';

// `npm run fuzz -- --seconds 60 --seed 1`: case after case; ends with 1 at the first finding, whose seed it prints.

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
  },
});
const first = Number(values.seed);
const until = Date.now() + Number(values.seconds) * 1000;
const counts = { cases: 0, connected: 0, right: 0, refused: 0 };
for (let seed = first; Date.now() < until; seed += 1) {
  try {
    const { connected, right, refused } = await hostileNbd(seed);
    counts.cases += 1;
    counts.connected += Number(connected);
    counts.right += right;
    counts.refused += refused;
  } catch (error) {
    process.stderr.write(`Seed ${seed}: ${String(error)}\n`);
    process.exit(1);
  }
}
const mib = Math.round(process.resourceUsage().maxRSS / 1024);
process.stdout.write(`${JSON.stringify({ seed: first, ...counts, peakRssMiB: mib })}\n`);
