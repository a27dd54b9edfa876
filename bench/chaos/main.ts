#!/usr/bin/env node
import { formatBytes, formatDuration } from '../../src/shared/index.js';
import { program, wholeFrom } from '../options.js';
import { openPlace } from './place.js';
import { chaosRun, type FaultKind, type RunResult } from './run.js';

const ABOUT = `Kills what takes part in a copy, at random moments, and looks whether the disks are equal.

Each run copies a disk of its own with the product's own mover, real nbdkit and a simulated host, and one to four times
the worker, nbdkit, the host or the connection is cut off. Those beside each other share one host, whose crash is everybody's.`;

async function main(): Promise<number> {
  const { runs, seed, beside, json } = program('chaos:transfer', ABOUT)
    .option('--runs <n>', 'how many', wholeFrom(1), 10)
    .option('--seed <n>', 'the same one makes the same moments', wholeFrom(0), Date.now() % 1_000_000)
    .option('--beside <n>', 'runs at once', wholeFrom(1), 6)
    .option('--json', 'the result as JSON')
    .parse()
    .opts<{ runs: number; seed: number; beside: number; json?: true }>();
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
    process.stdout.write(json ? `${JSON.stringify(document)}\n` : text(document));
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
