import { execFile } from 'node:child_process';
import { closeSync, ftruncateSync, mkdirSync, openSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** VDIs as plain sparse raw files, so that anyone can `cmp` them (R37). */
export class VdiFiles {
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
    mkdirSync(folder, { recursive: true });
  }

  path(uuid: string): string {
    return join(this.folder, `${uuid}.raw`);
  }

  create(uuid: string, sizeBytes: number): void {
    const file = openSync(this.path(uuid), 'w');
    ftruncateSync(file, sizeBytes);
    closeSync(file);
  }

  resize(uuid: string, sizeBytes: number): void {
    const file = openSync(this.path(uuid), 'r+');
    ftruncateSync(file, sizeBytes);
    closeSync(file);
  }

  /** A sparse copy; blocks are shared where the file system can. */
  async copy(fromUuid: string, toUuid: string): Promise<void> {
    const from = this.path(fromUuid);
    await promisify(execFile)('cp', ['--sparse=always', '--reflink=auto', '--', from, this.path(toUuid)]);
  }

  destroy(uuid: string): void {
    rmSync(this.path(uuid), { force: true });
  }

  /** Bytes the file takes on disk. */
  allocatedBytes(uuid: string): number {
    return (statSync(this.path(uuid), { throwIfNoEntry: false })?.blocks ?? 0) * 512;
  }

  /** Removes files without a record: a crash fell between two steps. */
  sweep(known: ReadonlySet<string>): void {
    for (const name of readdirSync(this.folder)) {
      if (!known.has(name.replace(/\.raw$/, ''))) rmSync(join(this.folder, name), { force: true });
    }
  }
}
