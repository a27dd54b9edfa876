import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { cachePath } from '../lab/cache.js';

const SOURCES = fileURLToPath(new URL('../../bench/programs/', import.meta.url));
const NAMES = ['sink', 'mover', 'measure'] as const;

export type Programs = Record<(typeof NAMES)[number], string>;

/** The C programs of the benchmark, compiled once for each state of their sources; paths in the cache folder. */
export async function compilePrograms(): Promise<Programs> {
  await mkdir(cachePath('bench'), { recursive: true });
  const pairs = NAMES.map(async (name) => {
    const source = `${SOURCES}${name}.c`;
    const stamp = createHash('sha256')
      .update(await readFile(source))
      .digest('hex')
      .slice(0, 12);
    const program = cachePath('bench', `${name}-${stamp}`);
    if (!existsSync(program)) {
      const fresh = `${program}.${process.pid}`;
      await run('cc', ['-std=gnu11', '-O2', '-Wall', '-o', fresh, source, '-lssl', '-lcrypto', '-lpthread']);
      await rename(fresh, program);
    }
    return [name, program];
  });
  return Object.fromEntries(await Promise.all(pairs)) as Programs;
}

async function run(command: string, args: string[]): Promise<void> {
  try {
    await promisify(execFile)(command, args);
  } catch (error) {
    throw new Error(`${(error as Error).message}\nNext: install gcc and libssl-dev.`, { cause: error });
  }
}
