import { activityInfo, cancellationSignal, Context } from '@temporalio/activity';
import type { Info } from '@temporalio/activity';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { DiskOpener, probeTools } from '../nbd/index.js';
import type { NbdClient } from '../nbd/index.js';
import { bottleneckOf, failure } from '../shared/index.js';
import type { MigrationStatus, PassFigures, Transport } from '../shared/index.js';
import { copyPass, planFromAreas } from '../transfer/index.js';
import type { CopyPassOptions, OpenReader, Plan, Throttle } from '../transfer/index.js';
import { Bandwidth } from './bandwidth.js';
import { explain } from './beating.js';
import { Comparisons } from './comparisons.js';
import type { Deps } from './deps.js';
import { Lately } from './lately.js';
import { SourceLinks } from './links.js';
import { planPass } from './plan.js';
import { ProgressReporter } from './progress.js';
import { probeReach } from './reach.js';
import { judge, withTail } from './read-back.js';
import { checkpointsOn, sinkFor } from './target-disk.js';
import { TransferMetrics } from './transfer-metrics.js';
import { openTransport } from './transports.js';
import type { Vsphere } from '../vsphere/index.js';
import type { Xapi } from '../xapi/index.js';
import type { CopyDiskInput, TransferActivities } from './types.js';

const BEAT_MS = 1_000;

/** What moves and checks block data; runs on the transfer workers. */
export function transferActivities(deps: Deps): TransferActivities {
  const bandwidth = new Bandwidth(deps.config);
  const comparisons = new Comparisons();
  const links = new SourceLinks();
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
        const vsphere = deps.vsphere(input.source.vcenter);
        const throttle = throttleOf(bandwidth);
        const { plan, ...found } = await plannedBy(input, connect, progress, throttle);
        const { host } = await vsphere.inspectVm({ vmMoRef: input.source.vmMoRef });
        const metrics = new TransferMetrics({ vcenter: input.source.vcenter, esxi: host.name, pool: target.pool });
        const way = links.join(input.source.vcenter, () => carriedFrom(vsphere, input.transport));
        const lately = new Lately();
        let toPool: number | undefined;
        try {
          const result = await write(xapi, input, {
            plan,
            pass: input.pass,
            openReader: connect,
            throttle,
            sourceLinkShare: way.linkShare,
            onLink: (rate) => (toPool = Math.max(toPool ?? 0, rate)),
            onProgress: (counters) => {
              way.moves(counters.bytesPerSecond);
              metrics.tell(counters);
              progress.beat('copy', counters, throttle.limit, bottleneckOf(lately.of(counters.spent)));
            },
          });
          const bottleneck = bottleneckOf(result.spent);
          const fromVmware = way.carries();
          await xapi.setVdiMetrics({
            vdiUuid: disk.vdiUuid,
            pass: input.pass,
            kind: input.kind,
            bytes: result.bytesSent,
            seconds: result.seconds,
            ...(bottleneck && { bottleneck }),
          });
          const { chunks: _chunks, resumedFrom: _resumedFrom, ...figures } = result;
          return {
            ...{ ...figures, ...(bottleneck && { bottleneck }), esxiHost: host.name },
            ...found,
            links: { ...(fromVmware && { vmware: fromVmware }), ...(toPool && { xcpng: toPool }) },
            ...provenance(opener),
          };
        } finally {
          way.leave();
        }
      });
    },

    /** Compares a target snapshot of one disk with what was read from the source, as far as `scope` says. */
    async verifyDisk(input) {
      return withSource(deps, input, async (_opener, connect, progress) => {
        const xapi = deps.xapi(input.target.pool);
        const throttle = throttleOf(bandwidth);
        const { plan } = await plannedBy(input, connect, progress, throttle);
        if (plan.planDigest !== input.planDigest) {
          throw failure('PlanChanged', {
            what: `${input.disk.label}: vSphere now reports other extents for pass ${input.pass} than when it was copied.`,
            why: 'The read-back would compare with another plan.',
            next: 'copy this disk in full.',
          });
        }
        return judge(xapi, input, {
          plan,
          openReader: connect,
          throttle,
          onProgress: (counters) => progress.beat('verify', counters, throttle.limit),
        });
      });
    },

    /** Sends places that differ once more, from the source as it was frozen, zeroes included. */
    async mendDisk(input) {
      return withSource(deps, input, async (_opener, connect, progress) => {
        const xapi = deps.xapi(input.target.pool);
        const { virtualSizeBytes } = await xapi.vdiAccess(input.disk.vdiUuid);
        const throttle = throttleOf(bandwidth);
        const result = await write(xapi, input, {
          plan: await planFromAreas('delta', virtualSizeBytes, input.extents),
          pass: `${input.pass}-mended`,
          openReader: async () => withTail(await connect(), virtualSizeBytes),
          throttle,
          onProgress: (counters) => progress.beat('copy', counters, throttle.limit),
        });
        return { bytesSent: result.bytesSent };
      });
    },
  };

  async function plannedBy(
    input: CopyDiskInput,
    connect: () => Promise<NbdClient>,
    progress: ProgressReporter,
    throttle: Throttle,
  ) {
    const signal = cancellationSignal();
    const link = new DiskOpener(() => openTransport(deps, { ...input, singleLink: true }, signal), {
      subject: input.fileName,
      signal,
    });
    try {
      return await planPass(input, {
        client: deps.vsphere(input.source.vcenter),
        connect,
        connectLink: () => link.connect(),
        compare: (vdiUuid) =>
          comparisons.between(input, vdiUuid, {
            xapi: deps.xapi(input.target.pool),
            openReader: connect,
            throttle,
            onProgress: (counters) => progress.beat('compare', counters, throttle.limit),
          }),
      });
    } finally {
      await link.stop();
    }
  }

  /** One pass onto a disk whose only writer this attempt is (R17). */
  async function write(
    xapi: Xapi,
    { disk, target, snapshotMoRef, since }: CopyDiskInput,
    work: {
      plan: Plan;
      pass: string;
      openReader: OpenReader;
      throttle: Throttle;
      onProgress: NonNullable<CopyPassOptions['onProgress']>;
      sourceLinkShare?: CopyPassOptions['sourceLinkShare'];
      onLink?: (bytesPerSecond: number) => void;
    },
  ) {
    const { plan, pass, openReader, throttle, onProgress, sourceLinkShare, onLink } = work;
    const { vdiUuid } = disk;
    const writerId = writerOf(activityInfo());
    await xapi.acquireWriter(vdiUuid, writerId);
    const result = await copyPass({
      plan,
      pass,
      snapshot: snapshotMoRef,
      openReader,
      sink: sinkFor(xapi, {
        vdiUuid,
        name: `${pass} of ${disk.label}`,
        writerId,
        migrationId: target.migrationId,
        onLink,
      }),
      checkpoints: checkpointsOn(xapi, vdiUuid, writerId),
      signal: cancellationSignal(),
      throttle,
      segmentBytes: deps.config.transfer.segmentBytes,
      segmentSeconds: deps.config.transfer.segmentSeconds,
      // What is asked from the last complete changeId covers whatever a broken pass announced (R8).
      coversUnfinished: since?.by === 'cbt',
      onProgress,
      ...(sourceLinkShare && { sourceLinkShare }),
    });
    await xapi.releaseWriter(vdiUuid, writerId);
    return result;
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

/** Names this attempt on the disk it writes. The time orders attempts, also after a pause or reset, where they count from 1 again. */
function writerOf({ workflowExecution, activityId, attempt, currentAttemptScheduledTimestampMs: at }: Info): string {
  return `${workflowExecution?.runId}/${activityId}/${attempt}@${at}`;
}

/** VDDK reads from the ESXi host itself, and the way there is another one than to the vCenter, which is what can be probed. */
async function carriedFrom(vsphere: Vsphere, transport: Transport): Promise<number | undefined> {
  return transport === 'https' || (await vsphere.about()).isEsxi ? vsphere.probeLink() : undefined;
}

/** How a disk was read, for the record (S1); a pass that had nothing left to read may never have opened it. */
function provenance({ source, vddkWays }: DiskOpener): Pick<PassFigures, 'nbdkit' | 'versions' | 'vddkWays'> {
  return {
    nbdkit: source?.commandLine ?? 'not started: nothing was left to read',
    versions: source?.pluginVersion ?? '',
    ...(vddkWays.length > 0 && { vddkWays }),
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
  const disk = new DiskOpener(() => openTransport(deps, input, signal), { subject: input.fileName, signal });
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
