#!/usr/bin/env node
import { parseArgs } from 'node:util';
import { formatBytes, formatDuration } from '../../src/shared/index.js';
import { openPlace } from './place.js';
import { chaosRun, type FaultKind, type RunResult } from './run.js';

const USAGE = `Kills what takes part in a copy, at random moments, and looks whether the disks are equal.

  npm run chaos:transfer -- --runs 100 --seed N [--beside 6] [--json]

Each run copies a disk of its own with the product's own mover, real nbdkit and a simulated host, and one to four times
the worker, nbdkit, the host or the connection is cut off. \`--beside\` runs share one host, whose crash is everybody's.
`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      runs: { type: 'string', default: '10' },
      seed: { type: 'string', default: String(Date.now() % 1_000_000) },
      beside: { type: 'string', default: '6' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const [runs, seed, beside] = [Number(values.runs), Number(values.seed), Number(values.beside)];
  const startedAt = Date.now();
  const place = await openPlace();
  const results: RunResult[] = [];
  try {
    let next = 1;
    const lane = async () => {
      while (next <= runs) {
        const number = next++;
        const result = await chaosRun(place, seed, number);
        results.push(result);
        process.stderr.write(`run ${number}: ${describe(result)}\n`);
      }
    };
    await Promise.all(Array.from({ length: beside }, lane));
    const document = summary(results, seed, place.hostCrashes, (Date.now() - startedAt) / 1000);
    process.stdout.write(values.json ? `${JSON.stringify(document)}\n` : text(document));
    return document.wrong.length === 0 ? 0 : 1;
  } finally {
    await place.stop();
  }
}

function describe({ faults, attempts, sentTwiceBytes, wrong }: RunResult): string {
  const verdict = wrong.length === 0 ? 'equal' : `WRONG: ${wrong.join('; ')}`;
  return `${faults.join(', ')}; ${attempts} attempt(s), ${formatBytes(sentTwiceBytes)} sent twice, ${verdict}`;
}

function summary(results: RunResult[], seed: number, hostCrashes: number, seconds: number) {
  const sum = (of: (result: RunResult) => number) => results.reduce((total, result) => total + of(result), 0);
  const count = (kind: FaultKind) => sum(({ faults }) => faults.filter((one) => one === kind).length);
  return {
    ...{ seed, runs: results.length, seconds, hostCrashes },
    faults: { worker: count('worker'), nbdkit: count('nbdkit'), host: count('host'), connection: count('connection') },
    plannedBytes: sum(({ plannedBytes }) => plannedBytes),
    sentBytes: sum(({ sentBytes }) => sentBytes),
    sentTwiceBytes: sum(({ sentTwiceBytes }) => sentTwiceBytes),
    readTwiceBytes: sum(({ readTwiceBytes }) => readTwiceBytes),
    equal: results.filter(({ wrong }) => wrong.length === 0).length,
    wrong: results.flatMap(({ wrong }) => wrong),
  };
}

function text(of: ReturnType<typeof summary>): string {
  const { worker, nbdkit, host, connection } = of.faults;
  const lines = [
    `seed ${of.seed}: ${of.runs} runs in ${formatDuration(of.seconds)}`,
    `killed: worker ${worker}, nbdkit ${nbdkit}, host ${host} (each time for all runs beside it), connection ${connection}`,
    `equal: ${of.equal} of ${of.runs}`,
    `planned ${formatBytes(of.plannedBytes)}, sent ${formatBytes(of.sentBytes)}`,
    `sent twice ${formatBytes(of.sentTwiceBytes)} (${of.sentTwiceBytes} bytes), read twice ${formatBytes(of.readTwiceBytes)}`,
    ...of.wrong.map((what) => `WRONG: ${what}`),
  ];
  return `${lines.join('\n')}\n`;
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    process.exit(1);
  },
);
