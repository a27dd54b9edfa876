import { createInterface } from 'node:readline';
import { execa } from 'execa';
import { fileURLToPath } from 'node:url';
import type { ServerAddress } from './server.js';

/** The compiled process: from `dist` beside us, from sources in the `dist` of the package. */
const MAIN = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? '../../dist/lab/xcpng/main.js' : './main.js', import.meta.url),
);
const STOP_GRACE_MS = 10_000;

export interface XcpngOptions {
  /** State folder; starting again on it goes on with the same pool. */
  stateDir: string;
  /** The ports of an earlier run, to be found again under the same address. */
  port?: number;
  adminPort?: number;
}

/** A simulated pool in a process of its own. */
export interface XcpngLab extends ServerAddress {
  /** Of the process that runs now. */
  readonly pid: number;
  /** Ends it and its VMs, and waits for that. */
  stop(): Promise<void>;
  /** Ends it by a signal, as a crash would, and waits for the end of the process. @returns Its exit code, if it ended by itself. */
  kill(signal?: NodeJS.Signals): Promise<number | undefined>;
  /** After `kill`: the host boots again, with the same state under the same address. */
  restart(): Promise<void>;
}

/** Starts a pool and waits until it answers. It ends with this process. */
export async function startXcpng({ stateDir, port = 0, adminPort = 0 }: XcpngOptions): Promise<XcpngLab> {
  let running = await launch(stateDir, port, adminPort);
  const address = running.address;
  const kill = async (signal: NodeJS.Signals = 'SIGKILL'): Promise<number | undefined> => {
    running.child.kill(signal);
    return (await running.child).exitCode;
  };
  return {
    ...address,
    get pid() {
      return running.child.pid ?? 0;
    },
    stop: async () => void (await kill('SIGTERM')),
    kill,
    async restart() {
      running = await launch(stateDir, portOf(address.url), portOf(address.adminUrl));
    },
  };
}

async function launch(stateDir: string, port: number, adminPort: number) {
  const args = [MAIN, '--json', '--state-dir', stateDir, '--port', String(port), '--admin-port', String(adminPort)];
  const child = execa(process.execPath, args, {
    stdin: 'pipe',
    stdout: 'pipe',
    stderr: 'inherit',
    buffer: false,
    reject: false,
    forceKillAfterDelay: STOP_GRACE_MS,
  });
  const address = await new Promise<ServerAddress>((resolve, reject) => {
    createInterface({ input: child.stdout }).once('line', (line) => resolve(JSON.parse(line) as ServerAddress));
    void child.then(({ exitCode }) => reject(new Error(`The lab's pool ended with ${exitCode} before it was ready.`)));
  });
  return { child, address };
}

function portOf(url: string): number {
  return Number(new URL(url).port);
}
