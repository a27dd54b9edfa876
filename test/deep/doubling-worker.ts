import { fileURLToPath } from 'node:url';
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { createActivities, createTransferActivities } from '../../src/activities/index.js';
import type { Bench } from '../e2e/harness.js';
import { sourceOf } from './acts.js';

/** A worker for one queue that does each act twice, as Temporal does when the first answer was lost. */
export interface DoublingWorker {
  queue: string;
  /** Names of the acts that were done twice. */
  seen: Set<string>;
  /** What the second time changed. */
  changes: string[];
}

type Step = (input: Named) => Promise<unknown>;
interface Named {
  migrationId?: string;
  source?: { migrationId?: string };
}

/** Runs workflows and both kinds of activities in this process, until the bench is stopped. */
export async function startDoublingWorker(bench: Bench): Promise<DoublingWorker> {
  // Steps that fail on purpose would fill the test's output with stacks.
  Runtime.install({ logger: new DefaultLogger('ERROR') });
  const doubling: DoublingWorker = { queue: 'doubling', seen: new Set(), changes: [] };
  const connection = await NativeConnection.connect({ address: bench.config.temporal.address });
  const worker = await Worker.create({
    connection,
    namespace: bench.config.temporal.namespace,
    taskQueue: doubling.queue,
    workflowsPath: fileURLToPath(new URL('../../src/workflows', import.meta.url)),
    activities: { ...doubled(createActivities(bench.deps)), ...doubled(createTransferActivities(bench.deps)) },
    maxHeartbeatThrottleInterval: '1 second',
  });
  const running = worker.run();
  bench.endings.push(async () => {
    worker.shutdown();
    await running;
    await connection.close();
  });
  return doubling;

  function doubled(activities: object): Record<string, Step> {
    const entries = Object.entries(activities) as [string, Step][];
    return Object.fromEntries(
      entries.map(([name, act]) => [
        name,
        async (input: Named) => {
          await act(input);
          const vmMoRef = /\/(vm-\d+)#/.exec(input?.migrationId ?? input?.source?.migrationId ?? '')?.[1];
          const before = vmMoRef === undefined ? [] : await inventory(bench, vmMoRef);
          const answer = await act(input);
          const after = vmMoRef === undefined ? [] : await inventory(bench, vmMoRef);
          doubling.seen.add(name);
          doubling.changes.push(
            ...before.filter((line) => !after.includes(line)).map((line) => `${name}: - ${line}`),
            ...after.filter((line) => !before.includes(line)).map((line) => `${name}: + ${line}`),
          );
          return answer;
        },
      ]),
    );
  }
}

/** All that a migration could have changed on either side, one line for each thing. */
async function inventory(bench: Bench, vmMoRef: string): Promise<string[]> {
  const { snapshots, disks, tools } = await bench.vsphere.vm(vmMoRef);
  const lines = [
    JSON.stringify({ ...(await sourceOf(bench, vmMoRef)), tools, links: disks.map(({ chain }) => chain.length) }),
    ...snapshots.map((snapshot) => JSON.stringify(snapshot)),
  ];
  const { name } = await bench.vsphere.vm(vmMoRef);
  for (const [cls, fields] of Object.entries(FIELDS)) {
    const records = await bench.api.call<Record<string, Record<string, unknown>>>(`${cls}.get_all_records`);
    for (const record of Object.values(records)) {
      const text = JSON.stringify(record);
      if (!text.includes(`/${vmMoRef}#`) && !text.includes(name)) continue;
      if (record['managed'] === false || (cls === 'task' && record['status'] !== 'pending')) continue;
      const kept = Object.fromEntries(fields.map((field) => [field, record[field]]));
      lines.push(`${cls} ${JSON.stringify({ ...kept, other_config: lastingMarks(record['other_config']) })}`);
    }
  }
  return lines.sort();
}

const FIELDS: Record<string, string[]> = {
  VM: ['uuid', 'name_label', 'power_state', 'blocked_operations', 'is_a_template', 'VBDs', 'VIFs', 'snapshots'],
  VDI: ['uuid', 'name_label', 'virtual_size', 'VBDs', 'snapshots'],
  network: ['uuid', 'name_label', 'VIFs', 'PIFs'],
  task: ['uuid', 'name_label'],
};

/**
 * Marks as far as they say what is the case. A checkpoint that is stored again is the same one: its two keys alternate, and
 * their number grows. What was measured belongs to the attempt.
 */
function lastingMarks(otherConfig: unknown): Record<string, string> {
  const entries = Object.entries(otherConfig as Record<string, string>).filter(
    ([key]) => !key.startsWith('surefire:metrics'),
  );
  return Object.fromEntries(
    entries.map(([key, value]) => {
      if (!key.startsWith('surefire:checkpoint')) return [key, value];
      return ['surefire:checkpoint', JSON.stringify((JSON.parse(value) as { value: unknown }).value)];
    }),
  );
}
