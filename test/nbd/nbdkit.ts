import { mkdtemp, rm, truncate, open, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach } from 'vitest';
import { startNbdkit, type DiskSource } from '../../src/nbd/index.js';
import type { StartOptions, RunningNbdkit } from '../../src/nbd/start-nbdkit.js';

/** Undoes what a test made, newest first. */
const cleanups: (() => Promise<unknown>)[] = [];
export function onCleanup(cleanup: () => Promise<unknown>): void {
  cleanups.push(cleanup);
}
afterEach(async () => {
  for (let cleanup = cleanups.pop(); cleanup !== undefined; cleanup = cleanups.pop()) await cleanup();
});

export async function tempDir(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'sf-'));
  onCleanup(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

/** A sparse raw file with the given contents at the given offsets. */
export async function rawDisk(sizeBytes: number, writes: [offset: number, bytes: Buffer][] = []): Promise<string> {
  const path = join(await tempDir(), 'disk.raw');
  const file: FileHandle = await open(path, 'w');
  for (const [offset, bytes] of writes) await file.write(bytes, 0, bytes.length, offset);
  await file.close();
  await truncate(path, sizeBytes);
  return path;
}

/** The real nbdkit with any plugin, stopped after the test. */
export async function serve(plugin: string[], extra: Partial<StartOptions> = {}): Promise<RunningNbdkit & DiskSource> {
  const nbdkit = await startNbdkit({ runDir: await tempDir(), plugin, subject: 'the test disk', ...extra });
  onCleanup(() => nbdkit.stop());
  return { ...nbdkit, pluginVersion: 'test' };
}

/** Bytes that do not repeat within a disk, and are never zero. */
export function pattern(length: number, seed = 1): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let state = seed >>> 0 || 1;
  for (let i = 0; i + 4 <= length; i += 4) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes.writeUInt32LE((state | 0x01010101) >>> 0, i);
  }
  for (let i = length - (length % 4); i < length; i++) bytes[i] = 7;
  return bytes;
}
