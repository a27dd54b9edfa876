import { open, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const MIB = 2 ** 20;

/**
 * Spreads the content of a raw disk over a chain of links as snapshots leave it, MiB by MiB in turn, and none of it twice.
 *
 * @param folder A VM's folder below the root of the mock library. @param name Of the newest link.
 * @returns `[datastore] folder/name.vmdk` and so on, newest first; the newest is read by the snapshot's name.
 */
export async function makeChain(
  source: string,
  links: number,
  place: { root: string; datastore: string; vm: string; name: string; snapshot: string },
): Promise<string[]> {
  const { root, datastore, vm, name, snapshot } = place;
  const named = Array.from({ length: links }, (_, index) => `${name}${index === 0 ? '' : `-${index}`}.vmdk`);
  const files = named.map((file, index) => join(root, datastore, vm, index === 0 ? `${file}@${snapshot}` : file));
  const disk = await open(source);
  const made = await Promise.all(files.map((file) => open(file, 'w', 0o600)));
  try {
    const { size } = await disk.stat();
    const piece = Buffer.alloc(MIB);
    for (let offset = 0, turn = 0; offset < size; offset += MIB, turn += 1) {
      const { bytesRead } = await disk.read(piece, 0, MIB, offset);
      await made[turn % links]?.write(piece, 0, bytesRead, offset);
    }
    for (const [index, file] of files.entries()) {
      await truncate(file, size);
      const parent = named[index + 1];
      if (parent !== undefined) await writeFile(`${file}.parent`, `[${datastore}] ${vm}/${parent}\n`);
    }
  } finally {
    await Promise.all([disk, ...made].map((file) => file.close()));
  }
  return named.map((file) => `[${datastore}] ${vm}/${file}`);
}
