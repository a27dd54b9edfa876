import { execa, ExecaError } from 'execa';
import { nbdkitFailure, noSuchProgram } from './classify.js';

const known = new Map<string, Promise<string>>();

/**
 * What reads the disk, for the record: `nbdkit 1.32.5, vddk plugin 1.42.3, VDDK 8.0.3`. Asked once per plugin and library.
 * `--dump-plugin` exits 0 even when no VDDK loads; then the last part is missing.
 */
export function pluginVersion(nbdkitCommand: string, plugin: string[]): Promise<string> {
  const key = JSON.stringify([nbdkitCommand, plugin]);
  let version = known.get(key);
  if (version === undefined) {
    version = ask(nbdkitCommand, plugin).catch((error: unknown) => {
      known.delete(key);
      if (!(error instanceof ExecaError)) throw error;
      if (error.code === 'ENOENT') throw noSuchProgram(nbdkitCommand);
      throw nbdkitFailure(`nbdkit cannot load its ${plugin[0]} plugin.`, String(error.stderr), 'VddkUnavailable');
    });
    known.set(key, version);
  }
  return version;
}

async function ask(nbdkitCommand: string, plugin: string[]): Promise<string> {
  const options = { cleanup: false, timeout: 20_000, forceKillAfterDelay: 1_000 } as const;
  const [server, dump] = await Promise.all([
    execa(nbdkitCommand, ['--version'], options),
    execa(nbdkitCommand, [...plugin, '--dump-plugin'], options),
  ]);
  const field = (name: string) => new RegExp(`^${name}=(.*)$`, 'm').exec(dump.stdout)?.[1];
  const library = field('vddk_library_version');
  return [
    server.stdout.trim(),
    `${field('name') ?? plugin[0]} plugin ${field('version') ?? 'unknown'}`,
    ...(library === undefined ? [] : [`VDDK ${library}`]),
  ].join(', ');
}
