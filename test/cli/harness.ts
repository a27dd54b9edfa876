import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { findTemporal, startTemporal, type RunningTemporal } from '../../src/cli/index.js';

export const MAIN = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url));

/** A folder with a configuration in it, for one test file. */
export function makeFolder(extra = ''): { folder: string; config: string; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), 'surefire-cli-'));
  const config = join(folder, 'surefire.yaml');
  writeFileSync(
    config,
    `vcenters: { vc: { url: "https://127.0.0.1:9/sdk", username: u, passwordEnv: LAB_PASSWORD } }
pools: { p: { url: "https://127.0.0.1:9", username: u, passwordEnv: LAB_PASSWORD, sr: s } }
transfer: { queue: transfer.test, runDir: run }
state: { dir: state }
${extra}`,
  );
  return { folder, config, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** A real server with its database in `folder`, on free ports unless one is given. */
export function startServer(folder: string, port = 0): Promise<RunningTemporal> {
  return startTemporal({
    program: findTemporal(),
    dbFile: join(folder, 'temporal.db'),
    logFile: join(folder, 'temporal.log'),
    namespace: 'surefire',
    port,
    uiPort: 0,
  });
}

/** Starts the built program as the shell would. @param main That of another build. */
export function spawnCli(args: string[], env: Record<string, string> = {}, main = MAIN) {
  return execa(process.execPath, [main, ...args], {
    reject: false,
    env: { SUREFIRE_OPERATOR: 'tester', NO_COLOR: '1', ...env },
    forceKillAfterDelay: 20_000,
  });
}

export async function runCli(args: string[], env: Record<string, string> = {}) {
  const { exitCode, stdout, stderr } = await spawnCli(args, env);
  return { exitCode, stdout, stderr };
}

/** Looks until it holds, at most `seconds`. */
export async function waitFor<T>(look: () => Promise<T | undefined | false>, seconds: number): Promise<T> {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const seen = await look();
    if (seen !== undefined && seen !== false) return seen;
    if (Date.now() > deadline) throw new Error(`not within ${seconds} s`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
