import { failure } from '../shared/index.js';
import { compareDisks } from '../transfer/index.js';
import type { Comparison, OpenReader, Range, Throttle, TransferCounters } from '../transfer/index.js';
import { cancellationSignal } from '@temporalio/activity';
import type { Xapi } from '../xapi/index.js';
import { targetStream } from './read-back.js';
import type { CopyDiskInput } from './types.js';

/** Of that many disks a worker remembers what a comparison has found. */
const MOST_REMEMBERED = 32;

/**
 * Compares frozen disks, each once: what was found holds as long as both sides exist, so a resumed copy goes on where the
 * comparison was, and the read-back that follows need not repeat it. A worker that lacks it compares again.
 */
export class Comparisons {
  readonly #known = new Map<string, Comparison>();

  async between(
    { source, snapshotMoRef, disk, target }: CopyDiskInput,
    vdiUuid: string,
    work: {
      xapi: Xapi;
      openReader: OpenReader;
      throttle: Throttle;
      onProgress: (progress: TransferCounters) => void;
    },
  ): Promise<Range[]> {
    const { xapi, throttle } = work;
    const key = [source.vcenter, snapshotMoRef, disk.deviceKey, target.pool, vdiUuid].join(' ');
    const comparison = this.#known.get(key) ?? { position: 0, ranges: [] };
    // The one asked for last is forgotten last.
    this.#known.delete(key);
    this.#known.set(key, comparison);
    const [oldest] = this.#known.keys();
    if (this.#known.size > MOST_REMEMBERED && oldest !== undefined) this.#known.delete(oldest);
    if (comparison.position >= disk.capacityBytes) return comparison.ranges;
    const signal = cancellationSignal();
    const { migrationId } = target;
    const { sizeBytes, readBack } = await targetStream(xapi, { vdiUuid, label: disk.label, migrationId }, throttle);
    if (sizeBytes < disk.capacityBytes) {
      throw failure('PlanChanged', {
        what: `${disk.label}: the target has ${sizeBytes} bytes, fewer than the ${disk.capacityBytes} of the source.`,
        next: 'copy this disk in full.',
      });
    }
    const ranges = await compareDisks({
      comparison,
      virtualSizeBytes: disk.capacityBytes,
      openReader: work.openReader,
      readTarget: readBack,
      signal,
      onProgress: work.onProgress,
    });
    await xapi.awaitNoAttachment(vdiUuid);
    return ranges;
  }
}
