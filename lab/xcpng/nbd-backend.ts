import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const READY_MS = 10_000;

/** A real nbdkit that serves the VDIs' raw files by name, read only, on a unix socket. Started at the first need. */
export class NbdBackend {
  readonly #folder: string;
  #child: ChildProcess | undefined;
  #ready: Promise<string> | undefined;
  #socketFolder: string | undefined;

  /** @param folder Of the raw files. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  socketPath(): Promise<string> {
    return (this.#ready ??= this.#start());
  }

  stop(): void {
    this.#child?.kill('SIGTERM');
    if (this.#socketFolder !== undefined) rmSync(this.#socketFolder, { recursive: true, force: true });
  }

  async #start(): Promise<string> {
    // Not in the state folder: a socket's name has to be short.
    const dir = (this.#socketFolder = mkdtempSync(join(tmpdir(), 'lab-nbd-')));
    const [socket, pidFile] = [join(dir, 's'), join(dir, 'pid')];
    const args = ['-r', '-f', '--exit-with-parent', '-U', socket, '-P', pidFile, 'file', `dir=${this.#folder}`];
    const child = (this.#child = spawn('nbdkit', args, { stdio: ['ignore', 'ignore', 'inherit'] }));
    let failed: Error | undefined;
    child.on('error', (error) => (failed = error));
    const deadline = Date.now() + READY_MS;
    while (!/^\d+\n/.test(await readFile(pidFile, 'utf8').catch(() => ''))) {
      if (failed !== undefined || child.exitCode !== null || Date.now() > deadline) {
        this.#ready = undefined;
        throw failed ?? new Error('nbdkit did not start');
      }
      await sleep(10);
    }
    return socket;
  }
}
