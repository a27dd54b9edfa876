import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, open, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { cachePath } from '../cache.js';
import { addFilesToExt4, makeExt4 } from './ext4.js';
import { seededBytes } from './random.js';

const MiB = 1024 * 1024;

/** Where the root file system and the notes lie in every boot disk: `lab/disks/build.sh` puts them there. */
const ROOT_OFFSET = 25 * MiB;
const NOTES = { offset: 41 * MiB, length: 4 * MiB };

/** A raw disk file that was made. */
export interface MadeDisk {
  path: string;
  /** Multiple of 512. */
  sizeBytes: number;
  /** A range nobody's file system uses: what a test writes there from outside breaks nothing. A boot disk's guest prints
   * the first 16 hex digits of its SHA-256 as `notes=` on its console. */
  scratch: { offset: number; length: number };
}

/** What {@link makeBootDisk} needs. */
export interface BootDiskOptions {
  firmware: 'bios' | 'uefi';
  path: string;
  /** Printed by the guest when it has booted: `BOOTPROOF nonce=...`. Letters, digits, dashes. */
  nonce: string;
  /** Stay up after booting until the ACPI power button is pressed; otherwise power off at once. Default true. */
  stay?: boolean;
}

/**
 * Makes a disk of 46 MiB that really boots, from the template of `scripts/setup.sh`, in a fraction of a second.
 * An existing file is replaced.
 *
 * @throws Error when the template is not there: run `scripts/setup.sh`.
 */
export async function makeBootDisk(options: BootDiskOptions): Promise<MadeDisk> {
  const { firmware, path, nonce, stay = true } = options;
  if (!/^[\w-]+$/.test(nonce)) throw new Error(`Nonce "${nonce}" is not made of letters, digits and dashes.`);
  await mkdir(dirname(path), { recursive: true });
  const work = await mkdtemp(join(tmpdir(), 'surefire-disk-'));
  try {
    const making = `${path}.making`;
    await execa('cp', ['--sparse=always', '--reflink=auto', cachePath('disks', `${firmware}.raw`), making]);
    const payload = seededBytes(`payload ${nonce}`, 4 * MiB);
    const files: Record<string, string | Buffer> = {
      '/etc/nonce': `${nonce}\n`,
      '/data/payload': payload,
      '/data/payload.sha256': `${createHash('sha256').update(payload).digest('hex')}  payload\n`,
      ...(stay ? { '/etc/bootproof.stay': '' } : {}),
    };
    await addFilesToExt4(making, ROOT_OFFSET, files, work);
    await rename(making, path);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return { path, sizeBytes: 46 * MiB, scratch: { ...NOTES } };
}

/** What {@link makeDataDisk} needs. */
export interface DataDiskOptions {
  path: string;
  /** At least 8 MiB, a multiple of 512; odd sizes (no multiple of 64 KiB) are welcome. */
  sizeBytes: number;
  /** The same seed gives the same content, but for the file system's times. */
  seed: string;
}

/**
 * Makes a disk with an ext4 file system (label `testdata`, files with a checksum list that the test guest verifies at
 * boot) in its first half, and in the second half a scratch range, pieces of incompressible data of odd lengths at odd
 * sectors between holes, and data in the very last sector. An existing file is replaced.
 */
export async function makeDataDisk(options: DataDiskOptions): Promise<MadeDisk> {
  const { path, sizeBytes, seed } = options;
  if (sizeBytes % 512 !== 0 || sizeBytes < 8 * MiB) {
    throw new Error(`A data disk of ${sizeBytes} bytes cannot be made: at least 8 MiB, a multiple of 512.`);
  }
  const fileSystemBytes = Math.floor(sizeBytes / 2 / MiB) * MiB;
  const scratch = { offset: fileSystemBytes, length: MiB };
  await mkdir(dirname(path), { recursive: true });
  const work = await mkdtemp(join(tmpdir(), 'surefire-disk-'));
  try {
    const making = `${path}.making`;
    await rm(making, { force: true });
    await writeFile(making, '');
    await truncate(making, sizeBytes);
    await writeSampleFiles(join(work, 'tree'), seed, fileSystemBytes);
    const features = [
      '-O',
      '^has_journal,^resize_inode',
      '-E',
      'root_owner=0:0,lazy_itable_init=1',
      '-d',
      join(work, 'tree'),
    ];
    await makeExt4(['-L', 'testdata', ...features, making, `${fileSystemBytes / 1024}k`]);
    await writePieces(making, seed, scratch.offset + scratch.length, sizeBytes);
    await rename(making, path);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return { path, sizeBytes, scratch };
}

async function writeSampleFiles(tree: string, seed: string, fileSystemBytes: number): Promise<void> {
  const files: Record<string, Buffer> = {
    'readme.txt': Buffer.from(`Sample files, seed ${seed}.\n`),
    'logs/repeated.log': Buffer.from('a line that compresses well\n'.repeat(8192)),
    'photos/incompressible.bin': seededBytes(`${seed} photo`, Math.floor(fileSystemBytes / 4) + 777),
  };
  for (let i = 0; i < 40; i++) files[`small/file-${i}`] = seededBytes(`${seed} ${i}`, i * 97);
  let sums = '';
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(tree, name)), { recursive: true });
    await writeFile(join(tree, name), content);
    sums += `${createHash('sha256').update(content).digest('hex')}  ${name}\n`;
  }
  await writeFile(join(tree, 'files.sha256'), sums);
}

// Lengths and gaps that fit neither 4 KiB, 64 KiB nor 2 MiB, because those are what a mover's boundaries are made of.
async function writePieces(path: string, seed: string, from: number, to: number): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const gap = Math.max(512 * 333, Math.floor((to - from) / 24 / 512) * 512);
    let piece = 0;
    for (let at = from + 512 * 3; at < to - 512; at += gap + 512 * (piece % 7)) {
      const length = Math.min(512 * (1 + ((piece * 131) % 300)), to - 512 - at);
      await file.write(seededBytes(`${seed} piece ${piece}`, length), 0, length, at);
      piece++;
    }
    await file.write(seededBytes(`${seed} last sector`, 512), 0, 512, to - 512);
  } finally {
    await file.close();
  }
}
