import { fileURLToPath } from 'node:url';
import { Context, heartbeat } from '@temporalio/activity';
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { ORCHESTRATOR_QUEUE, type MigrationInput, type TransferProgress } from '../../src/shared/index.js';

// Runs that fail on purpose would fill the test's output with stacks.
Runtime.install({ logger: new DefaultLogger('ERROR') });

export const PROGRESS: TransferProgress = {
  ...{ text: '50 %', phase: 'copy', disk: 'Hard disk 1', doneBytes: 2 * 1024 ** 3, totalBytes: 4 * 1024 ** 3 },
  ...{ bytesPerSecond: 100 * 1024 ** 2, attempt: 1 },
};

/** Polls a queue of transfers, and never has anything to do. */
export async function startIdleTransferWorker(address: string, taskQueue: string): Promise<{ stop(): Promise<void> }> {
  const connection = await NativeConnection.connect({ address });
  const worker = await Worker.create({
    ...{ connection, namespace: 'surefire', taskQueue },
    activities: { copyDisk: () => Promise.reject(new Error('nobody asks for this')) },
  });
  return runUntilStopped(worker, connection);
}

/** Runs the workflow of `tiny-migration.ts` until stopped. */
export async function startTinyWorker(address: string): Promise<{ stop(): Promise<void> }> {
  const connection = await NativeConnection.connect({ address });
  const worker = await Worker.create({
    connection,
    namespace: 'surefire',
    taskQueue: ORCHESTRATOR_QUEUE,
    workflowsPath: fileURLToPath(new URL('./tiny-migration.ts', import.meta.url)),
    activities: {
      async copyDisk() {
        heartbeat(PROGRESS);
        await Context.current().cancelled;
      },
    },
    maxHeartbeatThrottleInterval: '1 second',
  });
  return runUntilStopped(worker, connection);
}

function runUntilStopped(worker: Worker, connection: NativeConnection): { stop(): Promise<void> } {
  const running = worker.run();
  return {
    async stop() {
      worker.shutdown();
      await running;
      await connection.close();
    },
  };
}

let count = 0;

/** Input of a migration of a VM that no other test uses. */
export function inputOf(vm: string, more: Partial<MigrationInput> = {}): MigrationInput {
  count += 1;
  return {
    vm,
    schema: 1,
    source: { vcenter: 'vc', vmMoRef: `vm-${process.pid}${count}` },
    target: { pool: 'p', srUuid: 'sr', networks: {} },
    transferQueue: 'transfer.test',
    policy: {
      ...{
        transport: 'auto',
        shutdownHook: false,
        shutdownTimeoutSeconds: 300,
        snapshotHours: 72,
        checkValidMinutes: 60,
      },
      ...{ bootStableSeconds: 60, downtimeBudgetSeconds: 300 },
    },
    requestedBy: 'tester',
    ...more,
  };
}
