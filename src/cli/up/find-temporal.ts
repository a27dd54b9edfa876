import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { failure } from '../../shared/index.js';
import { isExecutable, onPath } from './processes.js';

/** The first version whose Web UI sends updates and shows current details. */
const LEAST = [1, 8] as const;

/**
 * The `temporal` program to run: the configured one, `$SUREFIRE_TEMPORAL`, the one on PATH if it is new enough, else
 * the one that set-up left in the cache (its path is in the file `temporal.path`).
 *
 * @throws ConfigInvalid when none can be used, with what was looked at.
 */
export function findTemporal(configured?: string): string {
  const named = configured ?? (process.env['SUREFIRE_TEMPORAL'] || undefined);
  if (named !== undefined) {
    if (isExecutable(named)) return named;
    throw unusable(`${named} is not a program that can be run.`);
  }
  const found = onPath('temporal');
  if (found !== undefined && newEnough(found)) return found;
  const note = join(cacheFolder(), 'temporal.path');
  const cached = readIfThere(note)?.trim();
  if (cached !== undefined && isExecutable(cached)) return cached;
  throw unusable(`PATH has ${found === undefined ? 'none' : `an older one (${found})`}, and ${note} names none.`);
}

function unusable(why: string): Error {
  return failure('ConfigInvalid', {
    what: `No \`temporal\` program of version ${LEAST.join('.')} or newer was found.`,
    why,
    next: 'run scripts/setup.sh, or name one with temporal.command in the configuration or $SUREFIRE_TEMPORAL.',
  });
}

function cacheFolder(): string {
  return process.env['SUREFIRE_CACHE'] || join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'surefire');
}

function newEnough(program: string): boolean {
  try {
    const text = execFileSync(program, ['--version'], { encoding: 'utf8', timeout: 10_000 });
    const [major = 0, minor = 0] = (/version (\d+)\.(\d+)/.exec(text) ?? []).slice(1).map(Number);
    return major > LEAST[0] || (major === LEAST[0] && minor >= LEAST[1]);
  } catch {
    return false;
  }
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}
