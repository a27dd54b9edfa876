import { InvalidArgumentError, Option } from 'commander';
import { execFileSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { generate } from 'selfsigned';
import { cachePath } from '../lab/cache.js';
import { cases, type Case, type Row } from './cases.js';
import { makeDisk, type Disk } from './disks.js';
import { machineFacts, untilIdle } from './machine.js';
import { numberFrom, program, wholeFrom } from './options.js';
import { compilePrograms } from './programs.js';
import { caseAsMarkdown, judge, summarise, type CaseResult } from './report.js';
import { runRow, type Bench, type Run } from './run.js';
import { startBenchTemporal } from './temporal.js';
import { performancePage } from './page.js';

interface Options {
  case?: string[];
  runs: number;
  size: number;
  quick?: true;
  patience: number;
  minutes: number;
  xo?: string;
  json?: true;
  write?: true;
}

/** Runs by case and row. */
type Taken = Map<string, Map<string, Run[]>>;

const say = (text: string) => void process.stderr.write(`${text}\n`);

async function main(): Promise<void> {
  const command = program(
    'bench',
    'Measures the mover beside what the machine can do and what others do, in turn, on the same disks.',
  )
    .addOption(new Option('--case <ids...>', 'only these cases').choices(cases().map(({ id }) => id)))
    .option('--runs <n>', 'runs of each row', wholeFrom(1), 3)
    .option('--size <factor>', 'share of the data, 0 to 1; the shape of the disks stays', share, 1)
    .option('--quick', 'one run with a sixteenth of the data: does it all still work?')
    .option(
      '--patience <seconds>',
      'how long to wait before a run until others leave the machine alone',
      numberFrom(0),
      10,
    )
    .option('--minutes <n>', 'begins no further run that would not end by then', numberFrom(0), 60)
    .option('--xo <dir>', 'folder with packages of Xen Orchestra, made as bench/README.md says')
    .option('--json', 'results as JSON on stdout')
    .option('--write', 'results into docs/performance.md');
  const options = command.parse().opts<Options>();
  const runs = options.quick ? 1 : options.runs;
  const scale = options.quick ? 1 / 16 : options.size;
  const chosen = cases(scale).filter(({ id }) => options.case?.includes(id) ?? true);

  const folder = await mkdtemp(join(tmpdir(), 'bench-'));
  // Disks in memory: what is measured is the mover, not this machine's disk.
  const disksFolder = await mkdtemp(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'bench-'));
  // Also after Ctrl-C: gigabytes of memory must not stay in use. nbdkits and receivers end by themselves.
  process.once('exit', () => [folder, disksFolder].forEach((one) => rmSync(one, { recursive: true, force: true })));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));

  const bench: Bench = {
    ...{ folder, disksFolder, programs: await compilePrograms(), ...(await certificate(folder)) },
    nbdkit: (await readFile(cachePath('nbdkit.path'), 'utf8').catch(() => 'nbdkit')).trim(),
    ...(options.xo === undefined ? {} : { xoDir: resolve(options.xo) }),
  };
  const temporal = chosen.some(({ rows }) => rows.some((row) => row.temporal)) ? await startBenchTemporal() : undefined;
  if (temporal !== undefined) bench.temporalAddress = temporal.address;
  const taken: Taken = new Map();
  const startedAt = Date.now();
  for (let turn = 0; turn < runs; turn++) {
    const perTurn = (Date.now() - startedAt) / Math.max(1, turn);
    if (turn > 0 && Date.now() - startedAt + perTurn > options.minutes * 60_000) break;
    for (const one of chosen) await runCase(bench, one, turn, options.quick ? 0 : options.patience, taken);
  }
  const results = chosen.map((one): CaseResult => {
    const rows = [...(taken.get(one.id) ?? [])].map(([name, list]) => summarise(name, list));
    return { id: one.id, title: one.title, base: one.base, rows, targets: judge(one, rows) };
  });
  await temporal?.stop();
  const facts = { ...(await machineFacts()), 'Sizes, of those in the titles': String(scale) };
  if (options.write) await writeFile('docs/performance.md', performancePage(facts, results));
  if (options.json) process.stdout.write(`${JSON.stringify({ facts, scale, cases: results }, undefined, 2)}\n`);
  else process.stdout.write(`${results.map(caseAsMarkdown).join('\n\n')}\n`);
}

function share(text: string): number {
  const number = Number(text);
  if (number > 0 && number <= 1) return number;
  throw new InvalidArgumentError('It must be a number above 0, at most 1.');
}

/** Every row once, now forwards and then backwards, so that a slow moment of the machine meets none of them alone. */
async function runCase(all: Bench, one: Case, turn: number, patience: number, taken: Taken): Promise<void> {
  say(`(${one.id}) ${one.title}`);
  const bench = { ...all, disksFolder: join(all.disksFolder, one.id) };
  await mkdir(bench.disksFolder);
  const disks: Record<string, Disk> = {};
  for (const [name, spec] of Object.entries(one.disks)) {
    disks[name] = await makeDisk(join(bench.disksFolder, `${name}.raw`), spec);
  }
  const rows = one.rows.filter((row) => usable(bench, row));
  const mine = taken.get(one.id) ?? new Map<string, Run[]>(rows.map(({ name }) => [name, []]));
  taken.set(one.id, mine);
  for (const row of turn % 2 === 0 ? rows : rows.toReversed()) {
    const disk = disks[row.disk ?? Object.keys(disks)[0] ?? ''];
    if (disk === undefined) throw new Error(`no disk for ${row.name}`);
    await untilIdle(patience);
    const run = await runRow(bench, row, disk);
    mine.set(row.name, [...(mine.get(row.name) ?? []), run]);
    const rate = run.bytes / 2 ** 20 / run.wall;
    say(
      `  ${row.name}: ${rate.toFixed(0)} MiB/s, ${(run.user + run.sys).toFixed(2)} CPU s, others ${run.foreign.toFixed(2)}`,
    );
  }
  await rm(bench.disksFolder, { recursive: true, force: true });
}

function usable(bench: Bench, row: Row): boolean {
  const program = row.stunnel ? 'stunnel' : row.by;
  if (row.by === 'xo') return bench.xoDir !== undefined;
  if (!['stunnel', 'nbdcopy', 'qemu-img', 'nbdinfo'].includes(program)) return true;
  try {
    execFileSync('sh', ['-c', `command -v ${program}`]);
    return true;
  } catch {
    say(`  ${row.name}: left out, ${program} is not installed`);
    return false;
  }
}

/** RSA, as XAPI's own certificates are: its cipher suites ask for it. */
async function certificate(folder: string): Promise<{ certFile: string; keyFile: string }> {
  const made = await generate([{ name: 'commonName', value: 'localhost' }], { keySize: 2048, algorithm: 'sha256' });
  const [certFile, keyFile] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  await writeFile(certFile, made.cert);
  await writeFile(keyFile, made.private, { mode: 0o600 });
  return { certFile, keyFile };
}

await main();
