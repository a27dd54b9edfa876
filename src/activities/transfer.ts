import { activityInfo, cancellationSignal, Context } from '@temporalio/activity';
import type { Info } from '@temporalio/activity';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { DiskOpener, probeTools } from '../nbd/index.js';
import type { NbdClient } from '../nbd/index.js';
import { bottleneckOf, failure } from '../shared/index.js';
import { copyPass, throttled, verifyBase, verifyDelta } from '../transfer/index.js';
import type { TransferCounters } from '../transfer/index.js';
import { Bandwidth } from './bandwidth.js';
import { explain } from './beating.js';
import type { Deps } from './deps.js';
import { planPass } from './plan.js';
import { ProgressReporter } from './progress.js';
import { probeReach } from './reach.js';
import { checkpointsOn, readBackOf, sinkFor } from './target-disk.js';
import { TransferMetrics } from './transfer-metrics.js';
import { openTransport } from './transports.js';
import type { CopyDiskInput, TransferActivities } from './types.js';

const BEAT_MS = 1_000;

/** What moves and checks block data; runs on the transfer workers. */
export function transferActivities(deps: Deps): TransferActivities {
  const bandwidth = new Bandwidth(deps.config);
  return {
    probeTransports: () => probeTools(deps.config.transfer),
    probeReach: ({ addresses }) => probeReach(addresses),

    /**
     * Copies one disk in one pass. May run any number of times: the checkpoint on the VDI says what is durable, and the
     * segment that was in flight is sent again, literally.
     */
    async copyDisk(input) {
      const { disk, target } = input;
      return withSource(deps, input, async (opener, connect, progress) => {
        const xapi = deps.xapi(target.pool);
        const { plan, deltaMethod } = await planPass(input, deps.vsphere(input.source.vcenter), connect);
        const writerId = writerOf(activityInfo());
        const throttle = bandwidth.forDisk();
        await xapi.acquireWriter(disk.vdiUuid, writerId);
        const metrics = new TransferMetrics({ vcenter: input.source.vcenter, pool: target.pool });
        const busy = busyShare();
        const result = await copyPass({
          plan,
          pass: input.pass,
          snapshot: input.snapshotMoRef,
          openReader: connect,
          sink: sinkFor(xapi, {
            vdiUuid: disk.vdiUuid,
            name: `${input.pass} of ${disk.label}`,
            writerId,
            migrationId: target.migrationId,
          }),
          checkpoints: checkpointsOn(xapi, disk.vdiUuid, writerId),
          signal: cancellationSignal(),
          throttle,
          segmentBytes: deps.config.transfer.segmentBytes,
          segmentSeconds: deps.config.transfer.segmentSeconds,
          // A delta is asked from the last complete changeId, so it covers whatever a broken one announced (R8).
          coversUnfinished: input.kind === 'delta',
          onProgress: (counters) => {
            metrics.tell(counters);
            progress.beat('copy', counters, throttle.limit, bottleneckOf(counters.spent, busy()));
          },
        });
        await xapi.releaseWriter(disk.vdiUuid, writerId);
        const bottleneck = bottleneckOf(result.spent, busy());
        await xapi.setVdiMetrics({
          vdiUuid: disk.vdiUuid,
          pass: input.pass,
          kind: input.kind,
          bytes: result.bytesSent,
          seconds: result.seconds,
          ...(bottleneck && { bottleneck }),
        });
        const { chunks: _chunks, resumedFrom: _resumedFrom, ...figures } = result;
        return { ...figures, ...(bottleneck && { bottleneck }), deltaMethod, ...provenance(opener) };
      });
    },

    /** Reads one disk back from its target snapshot, from the first byte to the last. */
    async verifyDisk(input) {
      const { disk, target, snapshotVdiUuid, previousSnapshotVdiUuid } = input;
      return withSource(deps, input, async (_opener, connect, progress) => {
        const xapi = deps.xapi(target.pool);
        const { plan } = await planPass(input, deps.vsphere(input.source.vcenter), connect);
        if (plan.planDigest !== input.planDigest) {
          throw failure('PlanChanged', {
            what: `${disk.label}: vSphere now reports other extents for pass ${input.pass} than when it was copied.`,
            why: 'The read-back would compare with another plan.',
            next: 'copy this disk in full.',
          });
        }
        const { readBack, sizeBytes } = await readBackOf(xapi, snapshotVdiUuid, disk.label, target.migrationId);
        const throttle = bandwidth.forDisk();
        const options = {
          plan,
          chainDigest: input.chainDigest,
          targetSizeBytes: sizeBytes,
          readBack: throttled(readBack, throttle, cancellationSignal()),
          openReader: connect,
          signal: cancellationSignal(),
          onProgress: (counters: TransferCounters) => progress.beat('verify', counters, throttle.limit),
        };
        if (input.kind === 'base') return verifyBase(options);
        if (previousSnapshotVdiUuid === undefined) throw new Error('a delta is compared with the snapshot before it');
        const previous = await readBackOf(xapi, previousSnapshotVdiUuid, disk.label, target.migrationId);
        return verifyDelta({
          ...options,
          readBackPrevious: throttled(previous.readBack, throttle, cancellationSignal()),
        });
      });
    },
  };
}

/** Names this attempt on the disk it writes. The time orders attempts, also after a pause or reset, where they count from 1 again. */
function writerOf({ workflowExecution, activityId, attempt, currentAttemptScheduledTimestampMs: at }: Info): string {
  return `${workflowExecution?.runId}/${activityId}/${attempt}@${at}`;
}

/** Share of the time since now in which this thread was busy; its transfers share it. */
function busyShare(): () => number {
  const since = performance.eventLoopUtilization();
  return () => performance.eventLoopUtilization(since).utilization;
}

/** How a disk was read, for the record (S1); a pass that had nothing left to read may never have opened it. */
function provenance({ source }: DiskOpener): { nbdkit: string; versions: string } {
  return {
    nbdkit: source?.commandLine ?? 'not started: nothing was left to read',
    versions: source?.pluginVersion ?? '',
  };
}

type Work<T> = (disk: DiskOpener, connect: () => Promise<NbdClient>, progress: ProgressReporter) => Promise<T>;

/** Runs a piece of work with the source disk open; the nbdkit is gone when it ends, however it ends. */
async function withSource<T>(deps: Deps, input: CopyDiskInput, work: Work<T>): Promise<T> {
  const progress = new ProgressReporter(input.disk.label, input.patienceSeconds);
  const signal = cancellationSignal();
  progress.beat('open', { bytesDone: 0, bytesTotal: input.disk.capacityBytes, bytesPerSecond: 0 });
  const beat = setInterval(() => progress.repeat(), BEAT_MS);
  const context = Context.current();
  const hear = () =>
    context.log.info('a transfer was told to stop', { disk: input.disk.label, ...context.cancellationDetails });
  signal.addEventListener('abort', hear, { once: true });
  // An nbdkit that dies or hangs is replaced within the attempt.
  const disk = new DiskOpener(() => openTransport(deps, input), { subject: input.fileName, signal });
  try {
    return await work(disk, () => disk.connect(), progress);
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
    await disk.stop();
  }
}
