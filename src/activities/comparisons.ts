import { failure } from '../shared/index.js';
import { compareDisks } from '../transfer/index.js';
import type { Comparison, OpenReader, Range, Throttle, TransferCounters } from '../transfer/index.js';
import { cancellationSignal } from '@temporalio/activity';
import type { Xapi } from '../xapi/index.js';
import { targetStream } from './read-back.js';
import type { CopyDiskInput } from './types.js';

/** Of that many disks a worker remembers what a comparison has found. */
const MOST_REMEMBERED = 32;

/** A heartbeat carries so many differences at most; what lies behind the last of them another worker compares again. */
const MOST_HANDED = 4096;

/** A comparison under way as a heartbeat takes it to the worker that goes on after a crash. */
export interface HandedComparison {
  /** Which two frozen disks. */
  of: string;
  position: number;
  /** Offset and length by turns. */
  ranges: number[];
}

/**
 * Compares frozen disks, each once: what was found holds as long as both sides exist, so a resumed copy goes on where the
 * comparison was, and the read-back that follows need not repeat it. A worker that lacks it goes on from what the last
 * heartbeat of the attempt before had, and compares the rest.
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
      /** Of the attempt before; whatever is odd about it is compared again. */
      handed: HandedComparison | undefined;
      onComparison: (known: HandedComparison) => void;
      onProgress: (progress: TransferCounters) => void;
    },
  ): Promise<Range[]> {
    const { xapi, throttle } = work;
    const key = [source.vcenter, snapshotMoRef, disk.deviceKey, target.pool, vdiUuid].join(' ');
    const comparison = this.#known.get(key) ??
      takenOver(work.handed, key, disk.capacityBytes) ?? { position: 0, ranges: [] };
    const tell = () => work.onComparison(handOver(key, comparison));
    tell();
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
      onProgress: (progress) => {
        tell();
        work.onProgress(progress);
      },
    });
    tell();
    await xapi.awaitNoAttachment(vdiUuid);
    return ranges;
  }
}

/** A comparison that ends at its last handed difference is one too: none of the rest is claimed. */
export function handOver(of: string, { position, ranges }: Comparison): HandedComparison {
  return {
    of,
    position: ranges[MOST_HANDED]?.offset ?? position,
    ranges: ranges.slice(0, MOST_HANDED).flatMap(({ offset, length }) => [offset, length]),
  };
}

/** @returns Undefined for what is no comparison of these disks, or none that this program would have made. */
export function takenOver(handed: HandedComparison | undefined, of: string, sizeBytes: number): Comparison | undefined {
  if (handed?.of !== of || !Array.isArray(handed.ranges) || handed.ranges.length % 2 !== 0) return undefined;
  const isPlace = (value: unknown) => Number.isInteger(value) && (value as number) % 512 === 0;
  const { position, ranges: numbers } = handed;
  if (![position, ...numbers].every(isPlace) || position < 0 || position > sizeBytes) return undefined;
  const ranges: Range[] = [];
  let end = -1;
  for (let at = 0; at < numbers.length; at += 2) {
    const [offset = 0, length = 0] = numbers.slice(at, at + 2);
    if (offset <= end || offset >= position || length <= 0 || offset + length > sizeBytes) return undefined;
    ranges.push({ offset, length });
    end = offset + length;
  }
  return { position, ranges };
}
