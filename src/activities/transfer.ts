import { activityInfo, cancellationSignal } from '@temporalio/activity';
import type { Info } from '@temporalio/activity';
import { DiskOpener, probeTools } from '../nbd/index.js';
import { bottleneckOf, failure } from '../shared/index.js';
import type { PassFigures, Transport } from '../shared/index.js';
import { copyPass, planFromAreas } from '../transfer/index.js';
import type { CopyPassOptions, OpenReader, TransferCounters } from '../transfer/index.js';
import { Bandwidth } from './bandwidth.js';
import { Comparisons } from './comparisons.js';
import type { Deps } from './deps.js';
import { withDisk } from './disk-attempt.js';
import type { DiskAttempt } from './disk-attempt.js';
import { Lately } from './lately.js';
import { SourceLinks } from './links.js';
import { planPass } from './plan.js';
import { probeReach } from './reach.js';
import { judge, withTail } from './read-back.js';
import { checkpointsOn, sinkFor } from './target-disk.js';
import { TransferMetrics } from './transfer-metrics.js';
import { openTransport } from './transports.js';
import type { Vsphere } from '../vsphere/index.js';
import type { CopyDiskInput, TransferActivities } from './types.js';

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
    copyDisk: (input) =>
      onDisk(input, async (attempt) => {
        const { vsphere, xapi, throttle, progress } = attempt;
        const { vcenter, vmMoRef } = input.source;
        const { plan, ...found } = await plannedBy(input, attempt);
        const { host } = await vsphere.inspectVm({ vmMoRef });
        const metrics = new TransferMetrics({ vcenter, esxi: host.name, pool: input.target.pool });
        const way = links.join(vcenter, () => carriedFrom(vsphere, input.transport));
        const lately = new Lately();
        let toPool: number | undefined;
        try {
          const result = await write(input, attempt, {
            plan,
            sourceLinkShare: way.linkShare,
            onLink: (rate) => (toPool = Math.max(toPool ?? 0, rate)),
            onProgress: (counters) => {
              way.moves(counters.bytesPerSecond);
              metrics.tell(counters);
              progress.beat('copy', counters, throttle.limit, bottleneckOf(lately.of(counters.spent)));
            },
          });
          const slowest = bottleneckOf(result.spent);
          const bottleneck = slowest && { bottleneck: slowest };
          const fromVmware = way.carries();
          const { chunks: _chunks, resumedFrom: _resumedFrom, ...figures } = result;
          const { vdiUuid } = input.disk;
          const { pass, kind } = input;
          const { bytesSent: bytes, seconds } = result;
          await xapi.setVdiMetrics({ vdiUuid, pass, kind, bytes, seconds, ...bottleneck });
          return {
            ...{ ...figures, ...bottleneck, esxiHost: host.name, ...found },
            links: { ...(fromVmware && { vmware: fromVmware }), ...(toPool && { xcpng: toPool }) },
            ...provenance(attempt.source),
          };
        } finally {
          way.leave();
        }
      }),

    /** Compares a target snapshot of one disk with what was read from the source, as far as `scope` says. */
    verifyDisk: (input) =>
      onDisk(input, async (attempt) => {
        const { xapi, openReader, throttle, progress } = attempt;
        const { plan } = await plannedBy(input, attempt);
        if (plan.planDigest !== input.planDigest) {
          throw failure('PlanChanged', {
            what: `${input.disk.label}: vSphere now reports other extents for pass ${input.pass} than when it was copied.`,
            why: 'The read-back would compare with another plan.',
            next: 'copy this disk in full.',
          });
        }
        const onProgress = (counters: TransferCounters) => progress.beat('verify', counters, throttle.limit);
        return judge(xapi, input, { plan, openReader, throttle, onProgress });
      }),

    /** Sends places that differ once more, from the source as it was frozen, zeroes included. */
    mendDisk: (input) =>
      onDisk(input, async (attempt) => {
        const { xapi, throttle, progress } = attempt;
        const { virtualSizeBytes } = await xapi.vdiAccess(input.disk.vdiUuid);
        const openReader = async () => withTail(await attempt.openReader(), virtualSizeBytes);
        const mended = { ...input, pass: `${input.pass}-mended` };
        const { bytesSent } = await write(
          mended,
          { ...attempt, openReader },
          {
            plan: await planFromAreas('delta', virtualSizeBytes, input.extents),
            onProgress: (counters) => progress.beat('copy', counters, throttle.limit),
          },
        );
        return { bytesSent };
      }),
  };

  function onDisk<T>(input: CopyDiskInput, work: (attempt: DiskAttempt) => Promise<T>): Promise<T> {
    return withDisk(deps, bandwidth, input, work);
  }

  async function plannedBy(input: CopyDiskInput, { vsphere, xapi, openReader, throttle, progress }: DiskAttempt) {
    const signal = cancellationSignal();
    const link = new DiskOpener(() => openTransport(deps, { ...input, singleLink: true }, signal), {
      subject: input.fileName,
      signal,
    });
    const onProgress = (counters: TransferCounters) => progress.beat('compare', counters, throttle.limit);
    try {
      return await planPass(input, {
        client: vsphere,
        connect: openReader,
        connectLink: () => link.connect(),
        compare: (vdiUuid) =>
          comparisons.between(input, vdiUuid, {
            ...{ xapi, openReader, throttle, onProgress },
            handed: progress.comparison,
            onComparison: (known) => (progress.comparison = known),
          }),
      });
    } finally {
      await link.stop();
    }
  }

  /** One pass onto a disk whose only writer this attempt is (R17). */
  async function write(
    { disk, target, snapshotMoRef, since, pass }: CopyDiskInput,
    { xapi, throttle, openReader }: Pick<DiskAttempt, 'xapi' | 'throttle'> & { openReader: OpenReader },
    work: Pick<CopyPassOptions, 'plan' | 'onProgress' | 'sourceLinkShare'> & { onLink?: (rate: number) => void },
  ) {
    const { onLink, ...moving } = work;
    const { vdiUuid } = disk;
    const { segmentBytes, segmentSeconds } = deps.config.transfer;
    const writerId = writerOf(activityInfo());
    await xapi.acquireWriter(vdiUuid, writerId);
    const name = `${pass} of ${disk.label}`;
    const result = await copyPass({
      ...moving,
      pass,
      snapshot: snapshotMoRef,
      openReader,
      sink: sinkFor(xapi, { vdiUuid, name, writerId, migrationId: target.migrationId, onLink }),
      checkpoints: checkpointsOn(xapi, vdiUuid, writerId),
      signal: cancellationSignal(),
      ...{ throttle, segmentBytes, segmentSeconds },
      // What is asked from the last complete changeId covers whatever a broken pass announced (R8).
      coversUnfinished: since?.by === 'cbt',
    });
    await xapi.releaseWriter(vdiUuid, writerId);
    return result;
  }
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
