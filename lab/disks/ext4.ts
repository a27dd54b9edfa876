import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';

// Debian keeps these tools where only root's PATH looks.
const env = { PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };

/** Runs `mke2fs -q -t ext4` with more arguments; needs no root. */
export async function makeExt4(args: string[]): Promise<void> {
  await execa('mke2fs', ['-q', '-t', 'ext4', ...args], { env });
}

/**
 * Adds files to an ext4 file system inside a disk file, without mounting it.
 *
 * @param disk Raw disk file.
 * @param offset First byte of the file system in it.
 * @param files Content by absolute path; the folders must exist, the files must not.
 * @param work Folder for temporary files.
 * @throws Error with debugfs's words; debugfs itself exits with 0 whatever happens.
 */
export async function addFilesToExt4(
  disk: string,
  offset: number,
  files: Record<string, string | Buffer>,
  work: string,
): Promise<void> {
  const commands: string[] = [];
  for (const [index, [path, content]] of Object.entries(files).entries()) {
    const source = join(work, `file-${index}`);
    await writeFile(source, content);
    commands.push(`write ${source} ${path}`);
  }
  const script = join(work, 'debugfs-commands');
  await writeFile(script, `${commands.join('\n')}\n`);
  const { stderr } = await execa('debugfs', ['-w', '-f', script, `${disk}?offset=${offset}`], { env });
  const complaints = stderr.split('\n').filter((line) => line && !/^debugfs [\d.]+ /.test(line));
  if (complaints.length > 0) throw new Error(`Files could not be put into ${disk}: ${complaints.join('; ')}`);
}
