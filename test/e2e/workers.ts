import { existsSync } from 'node:fs';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { parse, stringify } from 'yaml';
import type { WorkerRole } from '../../src/worker.js';
import { waitFor, type Bench } from './harness.js';
import { processes } from './world.js';

const WORKER = fileURLToPath(new URL('../../dist/src/worker.js', import.meta.url));

/**
 * Process id of the worker of `surefire up` that runs now. When it dies another is started: after a second, and later
 * each time it dies within a minute.
 */
export async function workerPid({ config }: Bench, role: WorkerRole): Promise<number> {
  return waitFor(`the ${role} worker`, async () => {
    const found = (await processes()).find(({ argv }) => argv.includes(role) && argv.includes(config.path));
    return found === undefined ? undefined : Number(found.pid);
  });
}

/** `kill -9` of a worker of `surefire up`. Settles when another has taken its place, though it may not poll yet. */
export async function crashWorker(bench: Bench, role: WorkerRole): Promise<void> {
  const pid = await workerPid(bench, role);
  process.kill(pid, 'SIGKILL');
  await waitFor(`another ${role} worker`, async () => (await workerPid(bench, role)) !== pid);
}

/** A transfer worker that belongs to the test: to be killed, stopped and started without disturbing the others. */
export interface TestWorker {
  pid: number;
  queue: string;
  logFile: string;
  /** Sends a signal; after SIGKILL and SIGTERM settles when the process is gone. */
  kill(signal: NodeJS.Signals): Promise<void>;
  /** How fast each disk may move from now on, its successors' too; without a number as fast as it can. */
  limit(diskMiBPerSecond?: number): Promise<void>;
}

/**
 * Starts one and waits until it polls. A second one with the same name is the successor of the first after a crash: the
 * same queue, and the same run folder, where it ends what nbdkit the first may have left. Two at the same time need two
 * names, and share a queue when it is given.
 *
 * @param changes Of the section `transfer` of its configuration.
 */
export async function startTransferWorker(
  bench: Bench,
  name: string,
  queue = `transfer.${name}`,
  changes: object = {},
): Promise<TestWorker> {
  const { path, temporal } = bench.config;
  const folder = dirname(path);
  const file = join(folder, `${name}.yaml`);
  const limit = async (diskMiBPerSecond?: number) => {
    const settings = parse(await readFile(path, 'utf8')) as { transfer: object };
    const limits = diskMiBPerSecond === undefined ? {} : { diskMiBPerSecond };
    const transfer = { ...settings.transfer, queue, limits, runDir: join(folder, `run-${name}`), ...changes };
    // By rename, because the worker may read at any moment.
    await writeFile(`${file}.new`, stringify({ ...settings, transfer }), { mode: 0o600 });
    await rename(`${file}.new`, file);
  };
  if (!existsSync(file)) await limit();
  const logFile = join(folder, `worker-${name}.log`);
  const child = execa(process.execPath, [WORKER, '--role', 'transfer', '--config', file], {
    reject: false,
    stdin: 'ignore',
    stdout: 'ignore',
    stderr: { file: logFile, append: true },
    env: { SUREFIRE_TEMPORAL_ADDRESS: temporal.address },
  });
  const kill = async (signal: NodeJS.Signals) => {
    child.kill(signal);
    if (signal === 'SIGKILL' || signal === 'SIGTERM') await child;
  };
  bench.endings.push(() => kill('SIGKILL'));
  await waitFor(`the transfer worker ${name}`, async () => {
    if (child.exitCode !== null) throw new Error(`it ended: ${await readFile(logFile, 'utf8')}`);
    const identities = (await bench.client.health(queue)).workers[queue] ?? [];
    return identities.some((identity) => identity.startsWith(`${child.pid}@`));
  });
  return { pid: child.pid ?? 0, queue, logFile, kill, limit };
}

/** `kill -9` of the Temporal server of `surefire up`. Settles when it answers again. */
export async function crashTemporal(bench: Bench): Promise<void> {
  const running = async () =>
    (await processes()).find(({ argv }) => argv.includes('start-dev') && argv.some((word) => isOurs(bench, word)));
  const before = await waitFor('the Temporal server', running);
  process.kill(Number(before.pid), 'SIGKILL');
  await waitFor('another Temporal server', async () => {
    const now = await running();
    return now !== undefined && now.pid !== before.pid && bench.client.list().catch(() => undefined);
  });
}

const isOurs = ({ config }: Bench, word: string): boolean => word.startsWith(config.state.dir);
