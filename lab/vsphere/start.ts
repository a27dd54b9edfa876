import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { execa } from 'execa';
import { cachePath } from '../cache.js';
import type { VsphereScenario } from './scenario.js';

export type { ToolsState, VsphereDisk, VsphereScenario, VsphereVm } from './scenario.js';

export interface StartVsphereOptions {
  /** Empty, or left by an earlier run: then the lab goes on where it was. */
  stateDir: string;
  /** Needed for an empty `stateDir`; an old one keeps the inventory it has. */
  scenario?: VsphereScenario;
  /** Address of the vSphere API; default a free port of 127.0.0.1. */
  listen?: string;
  /** Address of the admin endpoint; default a free port of 127.0.0.1. */
  adminListen?: string;
  /** Address where the ESXi hosts answer as on their port 902; default a free port of 127.0.0.1. */
  nfcListen?: string;
  /** Until the ready line; default 60 s (disk files are copied on the first start). */
  timeoutMs?: number;
}

/** What the lab's vCenter says about itself once it answers. */
export interface VsphereReady {
  /** `https://127.0.0.1:PORT/sdk` */
  url: string;
  username: string;
  password: string;
  /** Fingerprint of the certificate in upper-case hex with colons; the same after every restart. */
  fingerprintSha256: string;
  /** The same by SHA-1, as VDDK wants it. */
  thumbprintSha1: string;
  /** `http://127.0.0.1:PORT`, for `VsphereAdmin`. */
  adminUrl: string;
  /** Folder with one folder per datastore; also the mock VDDK's `root`. */
  root: string;
  /** Where the ESXi hosts answer as on their port 902. */
  nfcPort: number;
  pid: number;
}

export interface RunningVsphere extends VsphereReady {
  /** SIGTERM, and SIGKILL after 5 s; resolves when the process is gone. May be called twice. */
  stop(): Promise<void>;
  /** SIGKILL, as a crash; resolves when the process is gone. */
  kill(): Promise<void>;
}

/**
 * Starts the lab's vCenter as a child process, which ends with this process.
 *
 * @throws Error with what the child said, when it ends or stays silent before its ready line.
 */
export async function startVsphere(options: StartVsphereOptions): Promise<RunningVsphere> {
  await mkdir(options.stateDir, { recursive: true });
  const args = ['-state', options.stateDir, '-exit-with-stdin'];
  args.push('-listen', options.listen ?? '127.0.0.1:0', '-admin', options.adminListen ?? '127.0.0.1:0');
  args.push('-nfc', options.nfcListen ?? '127.0.0.1:0');
  if (options.scenario !== undefined) {
    const file = join(options.stateDir, 'wanted.json');
    await writeFile(file, JSON.stringify(options.scenario), { mode: 0o600 });
    args.push('-scenario', file);
  }
  const child = execa(cachePath('bin', 'lab-vsphere'), args, {
    stdin: 'pipe', // never closed here: its end tells the child that we are gone
    stderr: { file: join(options.stateDir, 'lab-vsphere.log'), append: true },
    buffer: false,
    reject: false,
    forceKillAfterDelay: 5_000,
  });
  const ended = child.then(() => undefined);
  try {
    const ready = await readyLine(child.stdout, options.timeoutMs ?? 60_000);
    return {
      ...ready,
      stop: () => (child.kill('SIGTERM'), ended),
      kill: () => (child.kill('SIGKILL'), ended),
    };
  } catch (error) {
    child.kill('SIGKILL');
    await ended;
    const log = join(options.stateDir, 'lab-vsphere.log');
    throw new Error(`The lab's vCenter did not start: ${(error as Error).message} Its last words are in ${log}.`);
  }
}

async function readyLine(stdout: NodeJS.ReadableStream, timeoutMs: number): Promise<VsphereReady> {
  const lines = createInterface({ input: stdout });
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`No ready line within ${timeoutMs / 1000} s.`)), timeoutMs);
    lines.once('line', (line) => {
      clearTimeout(timer);
      resolve(JSON.parse(line) as VsphereReady);
    });
    lines.once('close', () => {
      clearTimeout(timer);
      reject(new Error('It ended before its ready line.'));
    });
  });
}
