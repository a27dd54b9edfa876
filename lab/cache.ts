import { homedir } from 'node:os';
import { join } from 'node:path';

/**
 * A path in the cache folder, which `scripts/setup.sh` fills: compiled tools, the Temporal server, disk templates.
 * The folder is `$SUREFIRE_CACHE`, else `$XDG_CACHE_HOME/surefire`, else `~/.cache/surefire`.
 */
export function cachePath(...parts: string[]): string {
  const base =
    process.env['SUREFIRE_CACHE'] || join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'surefire');
  return join(base, ...parts);
}
