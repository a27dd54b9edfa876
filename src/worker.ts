import { NativeConnection, Runtime, Worker, DefaultLogger, makeTelemetryFilterString } from '@temporalio/worker';
import { Command, Option } from 'commander';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { createActivities, createTransferActivities } from './activities/index.js';
import { connectDeps } from './activities/connections.js';
import { redactFailures } from './activities/redact-failures.js';
import { clientFailure } from './client-errors.js';
import { loadConfig } from './config.js';
import type { Config } from './config.js';
import { missingAttributes } from './namespace.js';
import { sweepLeftovers } from './nbd/index.js';
import { failure, ORCHESTRATOR_QUEUE } from './shared/index.js';
import { redact, redactError } from './shared/redaction.js';
import { connectionOptions } from './temporal-connection.js';

export type WorkerRole = 'orchestrator' | 'transfer';

/** Time for activities to end at a checkpoint after SIGTERM, and for the process to give up. */
const SHUTDOWN = { shutdownGraceTime: '2 seconds', shutdownForceTime: '90 seconds' } as const;

const INTERCEPTORS = { activity: [redactFailures] };

/**
 * Builds one worker.
 *
 * `orchestrator`: workflows, and SOAP and XAPI calls of seconds. `transfer`: copies and read-backs of disks, few at a
 * time, on this host's own queue.
 */
export async function createWorker(role: WorkerRole, config: Config, connection: NativeConnection) {
  const deps = connectDeps(config);
  const { namespace } = config.temporal;
  const worker =
    role === 'orchestrator'
      ? await Worker.create({
          connection,
          namespace,
          taskQueue: ORCHESTRATOR_QUEUE,
          workflowsPath: fileURLToPath(new URL('./workflows', import.meta.url)),
          activities: createActivities(deps),
          interceptors: INTERCEPTORS,
          // Gates of many migrations may watch at once; each watch is an activity that sleeps.
          maxConcurrentActivityTaskExecutions: 500,
          // How soon a watch hears that nobody waits for it any more; a rollback in the outage must not take a minute.
          maxHeartbeatThrottleInterval: '2 seconds',
          ...SHUTDOWN,
        })
      : await Worker.create({
          connection,
          namespace,
          taskQueue: config.transfer.queue,
          activities: createTransferActivities(deps),
          interceptors: INTERCEPTORS,
          maxConcurrentActivityTaskExecutions: config.transfer.slots,
          // How soon a transfer hears of pause and cancel (R19), and how fresh its progress is.
          maxHeartbeatThrottleInterval: '1 second',
          ...SHUTDOWN,
        });
  return { worker, close: () => deps.close() };
}

async function main(): Promise<void> {
  const program = new Command('surefire-worker')
    .description('Runs one Temporal worker of surefire until SIGTERM.')
    .addOption(new Option('--role <role>').choices(['orchestrator', 'transfer']).makeOptionMandatory())
    .option('--config <file>', 'configuration, default as for surefire');
  program.parse();
  const { role, config: path } = program.opts<{ role: WorkerRole; config?: string }>();

  const log = pino(
    { level: process.env['SUREFIRE_LOG_LEVEL'] ?? 'info', errorKey: 'error' },
    { write: (line) => void process.stderr.write(redact(line)) },
  );
  // Node itself would print all properties of the error, and those of a library's may hold the request it sent.
  process.on('uncaughtException', (error) => {
    process.stderr.write(`${redactError(error).stack}\n`);
    process.exit(1);
  });
  const config = loadConfig(path);
  const metrics = config.metrics[role];
  Runtime.install({
    // How soon others see that this worker is there, and that it is gone (`workersOf` in client-workers.ts).
    workerHeartbeatInterval: '10 seconds',
    logger: new DefaultLogger('INFO', ({ level, message, meta }) => {
      const fields = meta && Object.fromEntries(Object.entries(meta).filter(([key]) => key !== 'sdkComponent'));
      log[level === 'TRACE' ? 'trace' : (level.toLowerCase() as 'debug' | 'info' | 'warn' | 'error')](
        fields ?? {},
        message,
      );
    }),
    telemetryOptions: {
      logging: { forward: {}, filter: makeTelemetryFilterString({ core: 'WARN', other: 'ERROR' }) },
      ...(metrics !== undefined && { metrics: { prometheus: { bindAddress: metrics, countersTotalSuffix: true } } }),
    },
  });
  if (role === 'transfer') {
    const swept = await sweepLeftovers(config.transfer.runDir);
    if (swept.length > 0) log.warn({ swept }, 'nbdkit processes of an earlier worker were ended');
  }
  const { address, namespace } = config.temporal;
  const orClientFailure = (error: unknown): never => {
    throw clientFailure(error, 'Starting the worker', address);
  };
  const connection = await NativeConnection.connect(connectionOptions(config.temporal)).catch(orClientFailure);
  try {
    const missing = await missingAttributes(connection, namespace).catch(orClientFailure);
    if (missing.length > 0) {
      throw failure('ConfigInvalid', {
        what: `Namespace ${namespace} of Temporal at ${address} lacks search attributes: ${missing.join(', ')}.`,
        why: 'A migration that sets one of them would stand still, without an error.',
        next: 'run `surefire prepare`, then start the worker again.',
      });
    }
    const { worker, close } = await createWorker(role, config, connection);
    log.info({ role, namespace, taskQueue: worker.options.taskQueue }, 'worker is ready');
    await worker.run();
    await close();
  } finally {
    await connection.close();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  main().catch((error: unknown) => {
    process.stderr.write(`${redactError(error).message}\n`);
    process.exitCode = 1;
  });
}
