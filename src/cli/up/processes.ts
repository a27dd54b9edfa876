import { spawn, type ChildProcess } from 'node:child_process';
import { accessSync, closeSync, constants, mkdirSync, openSync, readFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';

/** A child process whose output goes to a file. */
export interface LoggedProcess {
  pid: number;
  /** Settles when it has ended; never rejects. */
  ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** Last lines of its output that are not blank, at most `count`. */
  lastLines(count: number): string[];
  /** SIGTERM, then SIGKILL after `graceMs`. Settles when it is gone. May be called twice. */
  stop(graceMs: number): Promise<void>;
}

/** The first executable of that name on PATH. */
export function onPath(name: string): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '');
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

export function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Starts a program in its own process group, so that Ctrl-C on the terminal reaches only us and we decide the order of
 * stopping. Where `setpriv` exists (util-linux, so every Linux distribution) it ends when we die, even by SIGKILL.
 */
export function startLogged(command: readonly string[], logFile: string, env: NodeJS.ProcessEnv = {}): LoggedProcess {
  mkdirSync(dirname(logFile), { recursive: true, mode: 0o700 });
  const log = openSync(logFile, 'a', 0o600);
  const setpriv = onPath('setpriv');
  const whole = [...(setpriv === undefined ? [] : [setpriv, '--pdeathsig', 'TERM']), ...command];
  const child = spawn(whole[0]!, whole.slice(1), {
    detached: true,
    stdio: ['ignore', log, log],
    env: { ...process.env, ...env },
  });
  closeSync(log);
  const ended = endOf(child);
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null || child.pid === undefined;
  return {
    pid: child.pid ?? 0,
    ended,
    lastLines: (count) =>
      readFileSync(logFile, 'utf8')
        .split('\n')
        .filter((line) => line.trim() !== '')
        .slice(-count),
    async stop(graceMs) {
      if (hasEnded()) return;
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), graceMs);
      await ended;
      clearTimeout(timer);
    },
  };
}

function endOf(child: ChildProcess): LoggedProcess['ended'] {
  return new Promise((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal }));
    child.once('error', () => resolve({ code: 127, signal: null }));
  });
}
