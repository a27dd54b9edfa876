import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cachePath } from './cache.js';
import type { ImportRecord } from './xcpng/admin.js';

// What really crossed the wires, by nbdkit's own log and the pool's log of imports.

export interface Range {
  offset: number;
  length: number;
}

/** One nbdkit process: what it was to serve, and every read that was asked of it, answered or not. */
export interface Served {
  pid: number;
  file: string;
  snapshot: string;
  reads: Range[];
}

/** The real nbdkit with its own `log` filter: a file of arguments and one of requests for each process. */
export class LoggingNbdkit {
  readonly command: string;
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
    this.command = join(folder, 'nbdkit');
  }

  static async in(folder: string): Promise<LoggingNbdkit> {
    const made = new LoggingNbdkit(join(folder, 'logging-nbdkit'));
    await mkdir(made.#folder, { recursive: true });
    const nbdkit = (await readFile(cachePath('nbdkit.path'), 'utf8')).trim();
    const script = `#!/bin/sh
case "$*" in *--version* | *--dump-plugin*) exec '${nbdkit}' "$@" ;; esac
printf '%s\\n' "$@" > '${made.#folder}'/$$.args
exec '${nbdkit}' --filter=log "$@" logfile='${made.#folder}'/$$.log
`;
    await writeFile(made.command, script, { mode: 0o755 });
    return made;
  }

  /** Those that served a file with this in its name, in the order of their numbers. */
  async served(part: string): Promise<Served[]> {
    const names = (await readdir(this.#folder)).filter((name) => name.endsWith('.args'));
    const all = await Promise.all(
      names.map(async (name) => {
        const text = await readFile(join(this.#folder, name), 'utf8');
        const parameter = (key: string) => new RegExp(`^${key}=(.*)$`, 'm').exec(text)?.[1] ?? '';
        const log = await readFile(join(this.#folder, name.replace('.args', '.log')), 'utf8').catch(() => '');
        const reads = [...log.matchAll(/ Read id=\d+ offset=(0x[\da-f]+) count=(0x[\da-f]+)/g)];
        return {
          pid: Number(name.replace('.args', '')),
          file: parameter('file'),
          snapshot: parameter('snapshot'),
          reads: reads.map(([, offset, length]) => ({ offset: Number(offset), length: Number(length) })),
        };
      }),
    );
    return all.filter(({ file }) => file.includes(part)).sort((a, b) => a.pid - b.pid);
  }
}

export const bytesOf = (ranges: Range[]): number => ranges.reduce((sum, { length }) => sum + length, 0);

/** Bytes that lie in more than one of the ranges, counted once for each time beyond the first. */
export function bytesTwice(ranges: Range[]): number {
  let union = 0;
  let end = 0;
  for (const { offset, length } of [...ranges].sort((a, b) => a.offset - b.offset)) {
    union += Math.max(0, offset + length - Math.max(end, offset));
    end = Math.max(end, offset + length);
  }
  return bytesOf(ranges) - union;
}

/** What reads of one disk and snapshot were asked for more than once, over all processes that served it. */
export function readTwice(served: Served[]): number[] {
  const found = new Map<string, Range[]>();
  for (const { file, snapshot, reads } of served) {
    const key = `${file} ${snapshot}`;
    found.set(key, [...(found.get(key) ?? []), ...reads]);
  }
  return [...found.values()].map(bytesTwice);
}

export const announced = (puts: ImportRecord[]): Range[] => puts.flatMap(({ chunks }) => chunks);
export const broken = (puts: ImportRecord[]): ImportRecord[] => puts.filter(({ outcome }) => outcome !== 'success');

/** Pairs of PUTs to one disk of which the later had written before the earlier had written its last: there are none. */
export function overlapping(puts: ImportRecord[]): [number, number][] {
  const written = puts.filter(({ firstWriteAt }) => firstWriteAt !== undefined);
  return written.flatMap((earlier, index) =>
    written
      .slice(index + 1)
      .filter(({ vdiUuid }) => vdiUuid === earlier.vdiUuid)
      .filter(({ firstWriteAt = '' }) => Date.parse(firstWriteAt) < Date.parse(earlier.lastWriteAt ?? ''))
      .map((later): [number, number] => [earlier.id, later.id]),
  );
}
