import { cp, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** What the next version would have in the place of `from`, in a file below the tree's root. */
export interface Edit {
  file: string;
  from: string;
  to: string;
}

/**
 * Makes another version of surefire: a copy of the sources or of the build, with edits. It finds the same packages.
 *
 * @param folder Where the copy goes; a new one for each version.
 * @returns The copy of `src`.
 * @throws Error when an edit does not find its place, or finds two: then the test proves nothing any more.
 */
export async function changedBuild(tree: 'src' | 'dist/src', folder: string, edits: Edit[]): Promise<string> {
  const copy = join(folder, 'src');
  await cp(join(ROOT, tree), copy, { recursive: true });
  await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  await cp(join(ROOT, 'package.json'), join(folder, 'package.json'));
  for (const { file, from, to } of edits) {
    const path = join(copy, file);
    const parts = (await readFile(path, 'utf8')).split(from);
    if (parts.length !== 2) throw new Error(`${file} has ${parts.length - 1} places with: ${from}`);
    await writeFile(path, parts.join(to));
  }
  return copy;
}
