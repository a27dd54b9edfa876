import { access, mkdir } from 'node:fs/promises';
import { execa } from 'execa';
import { cachePath } from '../../lab/cache.js';

/**
 * A Python with a package in it, from a virtual environment in the cache folder; made or filled when needed.
 *
 * @param requirement Name and exact version, as `pyvmomi==9.1.1.0`.
 * @returns Path of the interpreter.
 * @throws Error with pip's words when the package index cannot be reached.
 */
export async function pythonWith(requirement: string): Promise<string> {
  const venv = cachePath('venv');
  const stamp = `${venv}/.installed-${requirement}`;
  const python = `${venv}/bin/python`;
  if (
    await access(stamp).then(
      () => true,
      () => false,
    )
  )
    return python;
  await mkdir(cachePath(), { recursive: true });
  // Two test files may come here at once; the environment is one.
  const install = `[ -x "$0/bin/python" ] || python3 -m venv "$0"; "$0/bin/pip" install --quiet --disable-pip-version-check "$1" && : > "$2"`;
  const made = await execa('flock', [`${venv}.lock`, 'sh', '-c', install, venv, requirement, stamp], {
    reject: false,
    all: true,
  });
  if (made.exitCode !== 0) {
    throw new Error(
      `The Python package ${requirement} could not be installed into ${venv}.\n${made.all}\n` +
        'Next: check that python3-venv is installed and that the Python package index can be reached.',
    );
  }
  return python;
}
