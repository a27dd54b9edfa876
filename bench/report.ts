import type { Case, Figure, Target } from './cases.js';
import type { Run } from './run.js';

const GIB = 1024 ** 3;

/** Medians of one row. */
export interface RowResult {
  name: string;
  runs: number;
  /** MiB/s of payload, and the slowest and fastest run. */
  rate: number;
  rateRange: [number, number];
  cpuPerGiB: number;
  user: number;
  sys: number;
  wall: number;
  rss: number;
  sentRatio?: number;
  loopP99Ms?: number;
  loopMaxMs?: number;
  slowestShare?: number;
  /** MB/s, millions of bytes, as the guide counts. */
  megabytes: number;
  /** Of limits: measured over asked, the least and the most of the parts. */
  heldLeast?: number;
  heldMost?: number;
  nbdkitCpuPerGiB: number;
  sinkCpuPerGiB?: number;
  foreign: number;
}

export interface TargetResult extends Target {
  value: number;
  met: boolean;
}

export interface CaseResult {
  id: string;
  title: string;
  base: string;
  rows: RowResult[];
  targets: TargetResult[];
}

/** Runs of a row as its figures; those that others disturbed are left out where enough remain. */
export function summarise(name: string, all: Run[]): RowResult {
  const calm = all.filter((run) => run.foreign < 0.2 && run.stolen < 0.12);
  const runs = calm.length * 2 > all.length ? calm : all;
  const of = (pick: (run: Run) => number | undefined) => median(runs.map(pick).filter((value) => value !== undefined));
  const some = <K extends string>(key: K, pick: (run: Run) => number | undefined) =>
    runs.some((run) => pick(run) !== undefined) ? ({ [key]: of(pick) } as Record<K, number>) : {};
  const gib = (runs[0]?.bytes ?? 0) / GIB;
  const rates = runs.map(({ wall }) => (gib * 1024) / wall);
  return {
    ...{ name, runs: runs.length, rate: median(rates), rateRange: [Math.min(...rates), Math.max(...rates)] },
    cpuPerGiB: of((run) => (run.user + run.sys) / gib),
    ...{ user: of((run) => run.user / gib), sys: of((run) => run.sys / gib) },
    ...{ wall: of((run) => run.wall), rss: of((run) => run.rss) },
    ...some('sentRatio', (run) => (run.sent === undefined ? undefined : run.sent / run.bytes)),
    ...some('loopP99Ms', (run) => run.loopP99Ms),
    ...some('loopMaxMs', (run) => run.loopMaxMs),
    // Of n disks that share the machine fairly each takes the same time; the slowest one had this share of the mean rate.
    ...some('slowestShare', ({ done }) =>
      done === undefined || done.length < 2
        ? undefined
        : done.length / done.reduce((sum, seconds) => sum + 1 / seconds, 0) / Math.max(...done),
    ),
    megabytes: (median(rates) * 2 ** 20) / 1e6,
    ...some('heldLeast', ({ held }) => held && Math.min(...held)),
    ...some('heldMost', ({ held }) => held && Math.max(...held)),
    nbdkitCpuPerGiB: of((run) => run.nbdkitCpu / gib),
    ...some('sinkCpuPerGiB', (run) => (run.sinkCpu === undefined ? undefined : run.sinkCpu / gib)),
    foreign: of((run) => run.foreign),
  };
}

/** Compares with what was to be reached; a row that was not measured judges nothing. */
export function judge({ targets }: Case, rows: RowResult[]): TargetResult[] {
  const figure = (name: string, key: Figure) => rows.find((row) => row.name === name)?.[key];
  return targets.flatMap((target) => {
    const [mine, other] = [
      figure(target.row, target.figure),
      target.over === undefined ? 1 : figure(target.over, target.figure),
    ];
    if (mine === undefined || other === undefined) return [];
    const value = mine / other;
    return [{ ...target, value, met: value >= (target.atLeast ?? -Infinity) && value <= (target.atMost ?? Infinity) }];
  });
}

/** Whether it is to be reached, and not only told. */
export const isBounded = ({ atLeast, atMost }: Target): boolean => atLeast !== undefined || atMost !== undefined;

/** One case as a markdown table, with the ratios to its base row, and what was to be reached. */
export function caseAsMarkdown({ id, title, base, rows, targets }: CaseResult): string {
  const against = rows.find(({ name }) => name === base);
  const cells = rows.map((row) => [
    row.name,
    `${round(row.rate)} (${round(row.rateRange[0])}–${round(row.rateRange[1])})`,
    against === undefined ? '' : (row.rate / against.rate).toFixed(2),
    `${row.cpuPerGiB.toFixed(2)} (${row.user.toFixed(2)} + ${row.sys.toFixed(2)})`,
    against === undefined ? '' : (row.cpuPerGiB / against.cpuPerGiB).toFixed(2),
    row.wall.toFixed(2),
    row.sentRatio?.toFixed(4) ?? '',
    round(row.rss),
    row.loopP99Ms === undefined ? '' : `${row.loopP99Ms.toFixed(1)} / ${round(row.loopMaxMs ?? 0)}`,
    `${row.nbdkitCpuPerGiB.toFixed(2)} / ${row.sinkCpuPerGiB?.toFixed(2) ?? '–'}`,
    String(row.runs),
  ]);
  const head = [
    ...['', 'MiB/s (least–most)', '× base', 'CPU s/GiB (user + sys)', '× base', 'seconds', 'sent / allocated', 'MiB'],
    ...['loop p99 / max ms', 'nbdkit / receiver CPU s/GiB', 'n'],
  ];
  const heading = `### (${id}) ${title}`;
  const judged = targets.map((target) => {
    if (!isBounded(target)) return `- ${target.what}: ${limit(target.value)}`;
    const wanted =
      target.atLeast === undefined ? `at most ${limit(target.atMost)}` : `at least ${limit(target.atLeast)}`;
    const why = target.met || target.why === undefined ? '' : `. ${target.why}`;
    return `- ${target.met ? 'met' : '**missed**'}: ${target.what} ${limit(target.value)} (${wanted})${why}`;
  });
  return [heading, '', ...markdownTable([head, ...cells]), '', ...judged].join('\n').trimEnd();
}

function markdownTable([head = [], ...rows]: string[][]): string[] {
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map((_, index) => (index === 0 ? '---' : '--:'))), ...rows.map(line)];
}

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[half] ?? 0) : ((sorted[half - 1] ?? 0) + (sorted[half] ?? 0)) / 2;
}

function round(value: number): string {
  return value < 10 ? value.toFixed(1) : value.toFixed(0);
}

function limit(value = 0): string {
  return Math.abs(value - 1) < 0.01 ? value.toFixed(4) : value.toFixed(2);
}
