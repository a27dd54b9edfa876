import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { heartbeat } from '@temporalio/activity';
import { Client, Connection } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { findTemporal, startTemporal } from '../src/cli/index.js';

const NAMESPACE = 'surefire';
const WORKFLOWS = 'bench';
const COPIES = 'bench.copies';

export interface Temporal {
  address: string;
  stop(): Promise<void>;
}

/** A Temporal server, and in this process the worker that decides. The copies run in the process that is measured. */
export async function startBenchTemporal(): Promise<Temporal> {
  quietRuntime();
  const folder = await mkdtemp(join(tmpdir(), 'bench-'));
  const server = await startTemporal({
    ...{ program: findTemporal(), dbFile: join(folder, 'db'), logFile: join(folder, 'log') },
    ...{ namespace: NAMESPACE, port: 0, uiPort: 0 },
  });
  const connection = await NativeConnection.connect({ address: server.address });
  const workflowsPath = fileURLToPath(new URL('./workflow.js', import.meta.url));
  const worker = await Worker.create({ connection, namespace: NAMESPACE, taskQueue: WORKFLOWS, workflowsPath });
  const running = worker.run();
  return {
    address: server.address,
    async stop() {
      worker.shutdown();
      await running;
      await connection.close();
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Runs `copies` as activities of a transfer worker in this process, as the product does, all of them at once. */
export async function asActivities(address: string, copies: ((beat: (details: unknown) => void) => Promise<void>)[]) {
  quietRuntime();
  const connection = await NativeConnection.connect({ address });
  const worker = await Worker.create({
    ...{ connection, namespace: NAMESPACE, taskQueue: COPIES, maxHeartbeatThrottleInterval: '1 second' },
    activities: { copyDisk: (index: number) => copies[index]?.(heartbeat) },
  });
  const running = worker.run();
  const client = new Client({ connection: await Connection.connect({ address }), namespace: NAMESPACE });
  try {
    await client.workflow.execute('copyDisks', {
      ...{ taskQueue: WORKFLOWS, workflowId: `bench-${process.pid}`, args: [copies.length, COPIES] },
    });
  } finally {
    worker.shutdown();
    await running;
    await client.connection.close();
    await connection.close();
  }
}

let isQuiet = false;
function quietRuntime(): void {
  if (!isQuiet) Runtime.install({ logger: new DefaultLogger('ERROR') });
  isQuiet = true;
}
