import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { hide, redact } from '../shared/redaction.js';
import { nbdkitFailure, noSuchProgram } from './classify.js';
import { recordRun } from './leftovers.js';
import { StderrTail } from './stderr-tail.js';
import type { DiskSource, NbdkitExit, NbdkitSettings } from './types.js';

const READY_MS = 30_000;
const GRACE_MS = 3_000;

export interface StartOptions extends NbdkitSettings {
  /** For nbdkit itself. */
  flags?: string[];
  /** Plugin name and its parameters. Visible to everyone on this machine: never a secret. */
  plugin: string[];
  /** Given to the plugin as `password=-3`, through a pipe: neither argv, environment nor a file shows it. */
  secretPassword?: string;
  /** For error texts: what is being opened. */
  subject: string;
  /** 0700, ours alone; made if it is not given, and removed by `stop`. */
  folder?: string;
  /** Where its lines go, should others of the same source go there too. */
  stderr?: StderrTail;
}

export interface RunningNbdkit extends Omit<DiskSource, 'pluginVersion'> {
  folder: string;
  pid: number;
}

/**
 * Starts nbdkit on a private unix socket, read only, and waits until it accepts connections. It has not talked to vSphere
 * by then: with vddk and curl, wrong credentials show at the first NBD connection.
 *
 * Call it from the main thread: `--exit-with-parent` follows the thread that spawned it.
 *
 * @throws NbdkitExited, VddkUnavailable or what its stderr says, when it ends before it is ready.
 */
export async function startNbdkit(options: StartOptions): Promise<RunningNbdkit> {
  const { nbdkitCommand = 'nbdkit', runDir, secretPassword, signal, subject, stderr = new StderrTail() } = options;
  signal?.throwIfAborted();
  if (secretPassword !== undefined) hide(secretPassword);
  const folder = options.folder ?? (await mkdtemp(join(tmpdir(), 'nbd-')));
  const socketPath = join(folder, 's');
  const pidFile = join(folder, 'pid');
  const args = [
    ...['-r', '-f', '--exit-with-parent', '--threads', String(options.threads ?? 16), '-U', socketPath, '-P', pidFile],
    ...(options.flags ?? []),
    ...(options.filters ?? []).map((filter) => `--filter=${filter}`),
    ...options.plugin,
    ...(secretPassword === undefined ? [] : ['password=-3']),
    ...(options.extraArgs ?? []),
  ];
  // `cleanup` off: execa's exit handler would swallow the SIGTERM that asks a worker to drain.
  const child = execa(nbdkitCommand, args, {
    cleanup: false,
    reject: false,
    buffer: false,
    extendEnv: false,
    env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin', LANG: 'C', ...options.env },
    stdio:
      secretPassword === undefined
        ? ['ignore', 'ignore', 'pipe']
        : ['ignore', 'ignore', 'pipe', [secretPassword].values()],
  });
  stderr.listen(child.stderr as Readable);
  let exit: (NbdkitExit & { error?: Error }) | undefined;
  const gone = child.then((result) => {
    exit = {
      exitCode: result.exitCode,
      signal: result.signal,
      ...(result.failed ? { error: result } : {}),
    } as typeof exit;
  });
  const forget = child.pid === undefined ? undefined : await recordRun(runDir, child.pid, folder);

  let stopping: Promise<void> | undefined;
  const stop = () => (stopping ??= end());
  const end = async () => {
    child.kill('SIGTERM');
    // A VDDK call that hangs makes nbdkit deaf to SIGTERM.
    const timer = setTimeout(() => child.kill('SIGKILL'), GRACE_MS);
    await gone;
    clearTimeout(timer);
    await rm(folder, { recursive: true, force: true });
    await forget?.();
  };

  const startedAt = Date.now();
  try {
    while (!/^\d+\n/.test(await readFile(pidFile, 'utf8').catch(() => ''))) {
      signal?.throwIfAborted();
      if (exit !== undefined) throw startFailure(nbdkitCommand, subject, stderr, exit);
      if (Date.now() - startedAt > READY_MS) {
        throw nbdkitFailure(`nbdkit was not ready for ${subject} after ${READY_MS} ms.`, stderr.text(), 'NbdkitExited');
      }
      await sleep(15);
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    socketPath,
    folder,
    pid: child.pid ?? 0,
    commandLine: redact([basename(nbdkitCommand), ...args].map(quote).join(' ')),
    lastStderr: () => stderr.text(),
    errorSince: (since) => stderr.waitForError(since),
    exited: () => exit && { exitCode: exit.exitCode, signal: exit.signal },
    stop,
  };
}

function startFailure(
  command: string,
  subject: string,
  stderr: StderrTail,
  exit: NbdkitExit & { error?: Error },
): Error {
  if ((exit.error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT') {
    return noSuchProgram(command);
  }
  const how = exit.signal === undefined ? `code ${exit.exitCode}` : `signal ${exit.signal}`;
  return nbdkitFailure(`nbdkit ended with ${how} while starting for ${subject}.`, stderr.text(), 'NbdkitExited');
}

function quote(argument: string): string {
  return /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", `'\\''`)}'`;
}
