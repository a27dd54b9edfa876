import { activityInfo, cancellationSignal, Context } from '@temporalio/activity';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { DiskOpener } from '../nbd/index.js';
import type { NbdClient } from '../nbd/index.js';
import type { MigrationStatus } from '../shared/index.js';
import type { Throttle } from '../transfer/index.js';
import type { Vsphere } from '../vsphere/index.js';
import type { Xapi } from '../xapi/index.js';
import type { Bandwidth } from './bandwidth.js';
import { explain } from './beating.js';
import type { Deps } from './deps.js';
import { ProgressReporter } from './progress.js';
import { openTransport } from './transports.js';
import type { CopyDiskInput } from './types.js';

const BEAT_MS = 1_000;

/** One attempt to move or check a disk: both its sides, how fast it may go, and where it says how far it is. */
export interface DiskAttempt {
  vsphere: Vsphere;
  xapi: Xapi;
  source: DiskOpener;
  /** Connects to the source disk. */
  openReader: () => Promise<NbdClient>;
  throttle: Throttle;
  progress: ProgressReporter;
}

/** Runs a piece of work with the source disk open; the nbdkit is gone when it ends, however it ends. */
export async function withDisk<T>(
  deps: Deps,
  bandwidth: Bandwidth,
  input: CopyDiskInput,
  work: (attempt: DiskAttempt) => Promise<T>,
): Promise<T> {
  const { label, capacityBytes } = input.disk;
  const progress = new ProgressReporter(label, input.patienceSeconds);
  const signal = cancellationSignal();
  progress.beat('open', { bytesDone: 0, bytesTotal: capacityBytes, bytesPerSecond: 0 });
  const beat = setInterval(() => progress.repeat(), BEAT_MS);
  const context = Context.current();
  const hear = () => context.log.info('a transfer was told to stop', { disk: label, ...context.cancellationDetails });
  signal.addEventListener('abort', hear, { once: true });
  // An nbdkit that dies or hangs is replaced within the attempt.
  const source = new DiskOpener(() => openTransport(deps, input, signal), { subject: input.fileName, signal });
  try {
    return await work({
      ...{ vsphere: deps.vsphere(input.source.vcenter), xapi: deps.xapi(input.target.pool), source, progress },
      openReader: () => source.connect(),
      throttle: throttleOf(bandwidth),
    });
  } catch (error) {
    const told = explain(error);
    if (told instanceof CancelledFailure) {
      progress.stoppedOnPurpose();
      throw told;
    }
    throw ApplicationFailure.fromError(told, { nextRetryDelay: progress.retryDelayMs });
  } finally {
    clearInterval(beat);
    signal.removeEventListener('abort', hear);
    await source.stop();
  }
}

/** The limit of this transfer: of host and disk by configuration, of the migration by its people's word. */
function throttleOf(bandwidth: Bandwidth): Throttle {
  const { workflowId, runId } = activityInfo().workflowExecution ?? { workflowId: '', runId: '' };
  const handle = Context.current().client.workflow.getHandle(workflowId, runId);
  return bandwidth.forDisk(`${workflowId}/${runId}`, async () => {
    const { limit } = await handle.query<Pick<MigrationStatus, 'limit'>, []>('status');
    return (limit?.mibPerSecond ?? Number.POSITIVE_INFINITY) * 2 ** 20;
  });
}
