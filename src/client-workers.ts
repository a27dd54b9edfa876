import type { WorkflowService } from '@temporalio/client';

/** Reports come every 10 s (the SDK's default is 60), a poll lasts a minute and a little: what is older is from the dead. */
const STALE_MS = 90_000;
/** Of temporal.api.enums.v1. */
const TASK_QUEUE_TYPE = { workflow: 1, activity: 2 } as const;
const WORKER_RUNNING = 1;

/** A moment as the server sends it. */
type Moment = { seconds?: unknown } | null;

/** What a worker last said of itself, and what the server saw of whoever asked it for work. */
export interface Sightings {
  reports: { workerIdentity?: string | null; status?: number | null; heartbeatTime?: Moment }[];
  polls: { identity?: string | null; lastAccessTime?: Moment }[];
}

/** Identities (`pid@host`) of the workers that take work from a queue now. */
export async function workersOf(
  service: WorkflowService,
  namespace: string,
  queue: string,
  kind: keyof typeof TASK_QUEUE_TYPE,
): Promise<string[]> {
  const [{ workersInfo }, { pollers }] = await Promise.all([
    // Server 1.31 calls `workersInfo` deprecated, but what replaces it does not say when a worker reported.
    service.listWorkers({ namespace, query: `TaskQueue = '${queue}'`, pageSize: 1000 }),
    service.describeTaskQueue({ namespace, taskQueue: { name: queue }, taskQueueType: TASK_QUEUE_TYPE[kind] }),
  ]);
  const reports = (workersInfo ?? []).map(({ workerHeartbeat }) => workerHeartbeat ?? {});
  return workersAtWork({ reports, polls: pollers ?? [] }, Date.now());
}

/**
 * Which workers are there.
 *
 * Their own reports count first: a worker all of whose slots are busy does not poll, for hours while it copies, and one
 * that died is listed as a poller for five minutes more. Polls count for workers that have not reported yet, right after
 * their start or the server's.
 */
export function workersAtWork({ reports, polls }: Sightings, nowMs: number): string[] {
  const isFresh = (time: Moment | undefined) => nowMs - Number(time?.seconds ?? 0) * 1000 < STALE_MS;
  const reporting = reports.filter(({ status, heartbeatTime }) => status === WORKER_RUNNING && isFresh(heartbeatTime));
  const silent = polls.filter(
    ({ identity, lastAccessTime }) =>
      isFresh(lastAccessTime) && !reports.some(({ workerIdentity }) => workerIdentity === identity),
  );
  const identities = [
    ...reporting.map(({ workerIdentity }) => workerIdentity),
    ...silent.map(({ identity }) => identity),
  ];
  return [...new Set(identities.map((identity) => identity ?? ''))];
}
