import { DiskOpener, startNbdkit, sweepLeftovers } from '../../src/nbd/index.js';
import type { DiskSource } from '../../src/nbd/index.js';
import { checkpointsOn, sinkFor } from '../../src/activities/target-disk.js';
import { failureMessageOf } from '../../src/shared/index.js';
import { copyPass, planFromMap } from '../../src/transfer/index.js';
import { createXapi } from '../../src/xapi/index.js';
import type { XapiOptions } from '../../src/xapi/types.js';

/** One attempt at one disk, as JSON in `CHAOS_JOB`: the environment, because a password is in it. */
export interface Job {
  pool: XapiOptions;
  vdiUuid: string;
  /** A raw file with holes. */
  disk: string;
  sizeBytes: number;
  nbdkit: string;
  runDir: string;
  segmentBytes: number;
  bitsPerSecond: number;
  writerId: string;
}

/** A process that does what the activity `copyDisk` does, and may be killed at any moment. */
async function main(job: Job): Promise<void> {
  await sweepLeftovers(job.runDir);
  const xapi = createXapi(job.pool);
  const { signal } = new AbortController();
  const opener = new DiskOpener(() => open(job), { subject: job.disk, signal });
  try {
    const map = await opener.connect();
    const plan = await planFromMap('base', job.sizeBytes, map.mapExtents());
    await map.close();
    await xapi.acquireWriter(job.vdiUuid, job.writerId);
    await copyPass({
      ...{ plan, pass: 'base', snapshot: 'one', signal, segmentBytes: job.segmentBytes },
      openReader: () => opener.connect(),
      sink: sinkFor(xapi, { vdiUuid: job.vdiUuid, name: 'chaos', writerId: job.writerId, migrationId: 'chaos' }),
      checkpoints: checkpointsOn(xapi, job.vdiUuid, job.writerId),
    });
    await xapi.releaseWriter(job.vdiUuid, job.writerId);
    process.stdout.write(`${plan.plannedBytes}\n`);
  } finally {
    await opener.stop();
    await xapi.close();
  }
}

async function open({ disk, nbdkit, runDir, bitsPerSecond }: Job): Promise<DiskSource> {
  const running = await startNbdkit({
    ...{ nbdkitCommand: nbdkit, runDir, subject: disk, filters: ['rate'] },
    plugin: ['file', `file=${disk}`, `rate=${bitsPerSecond}`],
  });
  return { ...running, pluginVersion: '' };
}

main(JSON.parse(process.env['CHAOS_JOB'] ?? '{}') as Job).then(
  () => process.exit(0),
  (error: unknown) => {
    process.stderr.write(`${failureMessageOf(error)}\n`);
    process.exit(1);
  },
);
