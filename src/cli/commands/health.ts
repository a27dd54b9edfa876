import { hostname } from 'node:os';
import { failure, ORCHESTRATOR_QUEUE } from '../../shared/index.js';
import type { Context } from '../context.js';

/** Roles of `worker.ts`. */
export const ROLES = ['orchestrator', 'transfer'] as const;

/**
 * For health checks: whether a worker of this role runs on this host, as the Temporal server sees it. Ends with 10 when
 * the server does not answer or knows of none.
 */
export async function health(context: Context, _options: object, role: (typeof ROLES)[number]): Promise<void> {
  const queue = role === 'orchestrator' ? ORCHESTRATOR_QUEUE : context.config().transfer.queue;
  const host = hostname();
  const workers = await (await context.client()).workersOf(queue);
  const ours = workers.filter((identity) => identity.endsWith(`@${host}`));
  if (ours.length === 0) {
    throw failure('TemporalUnreachable', {
      what: `No ${role} worker of host ${host} takes work from the queue "${queue}".`,
      why: workers.length === 0 ? 'Nor does one of another host.' : `Others do: ${workers.join(', ')}.`,
      next: 'read the log of the worker; it is started with `surefire up`, by docker compose or by systemd.',
    });
  }
  context.result({ role, queue, workers: ours }, `${role}: ${ours.join(', ')} on queue ${queue}.`);
}
