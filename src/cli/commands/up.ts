import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { connectClient } from '../../client.js';
import { withheldVariables, type Config } from '../../config.js';
import { failure, ORCHESTRATOR_QUEUE } from '../../shared/index.js';
import type { Context } from '../context.js';
import { EXIT } from '../exit-codes.js';
import { findTemporal } from '../up/find-temporal.js';
import { keepTemporal, portOf, type KeptTemporal } from '../up/keep-temporal.js';
import { supervise, type Supervised } from '../up/supervise.js';
import { savedViews } from '../up/views.js';

export interface UpOptions {
  db?: string;
  port?: number;
  uiPort?: number;
}

/** A worker loads its native part and bundles the workflows first. */
const WORKERS_READY_MS = 90_000;
const ROLES = ['orchestrator', 'transfer'] as const;

/**
 * The small home of the state (design 15): a Temporal server with its database in a file and both worker roles, in the
 * foreground until SIGINT or SIGTERM. A second signal does not wait for running copies.
 */
export async function up(context: Context, options: UpOptions): Promise<number> {
  const config = context.config();
  if (config.temporal.tls !== undefined) {
    throw failure('ConfigInvalid', {
      what: 'The configuration has temporal.tls, which is for a server elsewhere; `surefire up` runs its own, without TLS.',
      next: 'use the server that the configuration names, or take temporal.tls out.',
    });
  }
  const stopAsked = signalled();
  const temporal = await keepTemporal(
    {
      program: findTemporal(config.temporal.command),
      dbFile: resolve(options.db ?? join(config.state.dir, 'temporal.db')),
      logFile: join(config.state.dir, 'temporal.log'),
      namespace: config.temporal.namespace,
      port: options.port ?? portOf(config.temporal.address),
      uiPort: options.uiPort ?? portOf(config.temporal.webUrl),
      env: withheldVariables(config),
    },
    context.say,
  );
  const workers = ROLES.map((role) => superviseWorker(role, config, temporal, context));
  try {
    const ready = await Promise.race([waitForWorkers(config, temporal), stopAsked.then(() => false)]);
    if (ready) announce(context, config, temporal, workers);
    await stopAsked;
    return EXIT.done;
  } finally {
    context.say('Stopping: running copies end at a checkpoint. Migrations go on at the next `surefire up`.');
    // Workers first: each reports to the server how far its copies came.
    await Promise.all(workers.map((worker) => worker.stop()));
    await temporal.stop();
  }
}

function superviseWorker(role: (typeof ROLES)[number], config: Config, temporal: KeptTemporal, context: Context) {
  const program = fileURLToPath(new URL('../../worker.js', import.meta.url));
  return supervise({
    name: `${role} worker`,
    command: [process.execPath, program, '--role', role, '--config', config.path],
    env: { SUREFIRE_TEMPORAL_ADDRESS: temporal.address, SUREFIRE_TEMPORAL_WEB_URL: temporal.webUrl },
    logFile: join(config.state.dir, `worker-${role}.log`),
    say: context.say,
  });
}

/** True when both queues have a worker, false when that takes too long: the reasons are being told meanwhile. */
async function waitForWorkers(config: Config, { address, webUrl, pid }: KeptTemporal): Promise<boolean> {
  const { namespace } = config.temporal;
  const client = await connectClient({ temporal: { address, webUrl, namespace } });
  try {
    for (const deadline = Date.now() + WORKERS_READY_MS; Date.now() < deadline; await sleep(200)) {
      const { workers } = await client.health(config.transfer.queue);
      if (Object.values(workers).every((identities) => identities.length > 0)) return true;
    }
  } finally {
    await client.close();
  }
  throw failure('Unexpected', {
    what: `The workers did not come up within ${WORKERS_READY_MS / 1000} s (Temporal runs as process ${pid()}).`,
    next: `read ${join(config.state.dir, 'worker-*.log')}.`,
  });
}

function announce(context: Context, config: Config, temporal: KeptTemporal, workers: Supervised[]): void {
  const { namespace } = config.temporal;
  const queues = { orchestrator: ORCHESTRATOR_QUEUE, transfer: config.transfer.queue };
  const views = savedViews(temporal.webUrl, namespace);
  const { address, webUrl } = temporal;
  const document = {
    ready: true,
    ...{ address, webUrl, namespace, stateDir: config.state.dir, temporalPid: temporal.pid(), views },
    workers: ROLES.map((role, index) => ({ role, queue: queues[role], pid: workers[index]?.pid() })),
  };
  const lines = [
    `Temporal   ${address}  namespace ${namespace}`,
    `Web UI     ${webUrl}/namespaces/${namespace}/workflows`,
    ...views.map(({ name, url }) => `           ${name}: ${url}`),
    `Workers    ${ROLES.map((role) => `${role} on queue ${queues[role]}`).join(', ')}`,
    `State      ${config.state.dir}`,
    'Ready. Ctrl-C stops cleanly; started again it goes on where it was.',
  ];
  context.result(document, lines.join('\n'));
}

/** Settles at the first SIGINT or SIGTERM; the second one ends this process, and its children with it. */
function signalled(): Promise<void> {
  return new Promise((resolve) => {
    let count = 0;
    const hear = () => {
      count += 1;
      if (count > 1) process.exit(EXIT.interrupted);
      resolve();
    };
    process.on('SIGINT', hear).on('SIGTERM', hear);
  });
}
