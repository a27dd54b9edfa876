import { mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cachePath } from '../cache.js';

/** What the mock library of one lab accepts and serves. */
export interface VddkLibdirOptions {
  /** Folder to make; it becomes nbdkit's `libdir=`. */
  dir: string;
  /** Folder with the datastores, as lab/vsphere publishes it. */
  root: string;
  /** Host name or address clients must use. */
  server: string;
  /** Port of the simulated vCenter; a client that names another one reaches nobody. */
  port: number;
  username: string;
  password: string;
  /** SHA-1 of the vCenter's certificate; colons and case do not matter. */
  thumbprintSha1: string;
}

/** Behaviours that can be switched while nbdkit runs; `lab/vddk/README.md` describes them. Numbers are microseconds where the name says `_us`. */
export type VddkFaults = Partial<
  Record<
    | 'read_delay_us'
    | 'query_delay_us'
    | 'open_delay_us'
    | 'bandwidth_kib'
    | 'fail_connect'
    | 'fail_open'
    | 'fail_query'
    | 'fail_read'
    | 'fail_lba'
    | 'lost_read'
    | 'lost_every'
    | 'hang_read'
    | 'crash_read'
    | 'once'
    | 'no_query'
    | 'max_sessions'
    | 'async_threads'
    | 'auth_stage'
    | 'cookie'
    | 'password',
    string | number
  >
>;

/** One line of the audit log. All values but `time`, `pid` and `rc` are text or null. */
export interface VddkCall {
  time: number;
  pid: number;
  call: 'InitEx' | 'ConnectEx' | 'Open' | 'Close' | 'Exit' | 'crash' | 'hang';
  rc: number;
  [key: string]: string | number | null;
}

/**
 * Makes a VDDK folder for one lab: the cached mock library plus this lab's settings. May run twice.
 *
 * @returns The folder, for `nbdkit vddk libdir=`.
 */
export async function makeVddkLibdir(options: VddkLibdirOptions): Promise<string> {
  const { dir } = options;
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await rm(join(dir, 'lib64'), { recursive: true, force: true });
  await symlink(cachePath('vddk', 'lib64'), join(dir, 'lib64'));
  await writeLines(join(dir, 'mock-vddk.conf'), {
    root: options.root,
    server: options.server,
    port: options.port,
    user: options.username,
    password: options.password,
    thumbprint: options.thumbprintSha1,
    log: join(dir, 'calls.log'),
  });
  return dir;
}

/** Replaces the faults of a running lab; `{}` ends them all. Takes effect with the library's next call. */
export async function setVddkFaults(dir: string, faults: VddkFaults): Promise<void> {
  await writeLines(join(dir, 'faults.conf'), faults);
}

/** What the library was asked to do so far, oldest first. */
export async function readVddkCalls(dir: string): Promise<VddkCall[]> {
  const text = await readFile(join(dir, 'calls.log'), 'utf8').catch(() => '');
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as VddkCall);
}

// By rename, because the library may read at any moment.
async function writeLines(path: string, settings: Record<string, string | number>): Promise<void> {
  const lines = Object.entries(settings).map(([key, value]) => `${key}=${value}\n`);
  await writeFile(`${path}.new`, lines.join(''), { mode: 0o600 });
  await rename(`${path}.new`, path);
}
