import { activityInfo, heartbeat } from '@temporalio/activity';
import { failure, formatBytes, formatDuration, formatRate } from '../shared/index.js';
import type { Bottleneck, TransferProgress } from '../shared/index.js';
import type { TransferCounters } from '../transfer/index.js';
import type { HandedComparison } from './comparisons.js';

/** Attempts in a row that must have moved nothing, for as long as the input says, before a person is asked. */
const STALLED_LIMIT = 5;
const FIRST_RETRY_MS = 2_000;
const LONGEST_RETRY_MS = 30_000;

/** Heartbeat of a transfer: what the Web UI shows, and what the next attempt knows of this one. */
interface Beat extends TransferProgress {
  /** Attempts in a row, this one included, that have moved nothing so far. */
  stalled: number;
  /** When the first of them began, an epoch time. */
  stalledSince?: number;
  /** What a comparison has found, for a worker that has to go on without this one. */
  comparison?: HandedComparison;
}

/**
 * Reports a transfer's progress and stops it when attempt after attempt moves nothing: so a copy survives any number of
 * restarts and the reboot of a host, and yet ends when it cannot work.
 *
 * @throws NoProgress
 */
export class ProgressReporter {
  readonly #disk: string;
  readonly #stalledBefore: number;
  readonly #stalledSince: number;
  readonly #start: Pick<Beat, 'phase' | 'doneBytes'> | undefined;
  #last: Beat | undefined;
  /** Found by the attempt before, then by this one. */
  comparison: HandedComparison | undefined;

  /** @param patienceSeconds How long attempts may move nothing. */
  constructor(disk: string, patienceSeconds: number) {
    this.#disk = disk;
    const before = activityInfo().heartbeatDetails as Beat | undefined;
    this.#stalledBefore = before?.stalled ?? 0;
    this.#stalledSince = before?.stalledSince ?? Date.now();
    this.#start = before;
    this.comparison = before?.comparison;
    const stalledMs = Date.now() - this.#stalledSince;
    if (this.#stalledBefore < STALLED_LIMIT || stalledMs < patienceSeconds * 1000) return;
    throw failure('NoProgress', {
      what: `${disk}: ${this.#stalledBefore} attempts in a row moved nothing.`,
      why: 'The last failures are among the pending activities in the Web UI.',
      next: 'mend the cause, then decide `retry`.',
    });
  }

  /** @param limit Bytes per second that the configuration allows now; `Infinity` is no limit. */
  beat(
    phase: TransferProgress['phase'],
    { bytesDone: doneBytes, bytesTotal: totalBytes, bytesPerSecond }: TransferCounters,
    limit = Number.POSITIVE_INFINITY,
    bottleneck?: Bottleneck,
  ): void {
    const percent = totalBytes === 0 ? 100 : Math.floor((100 * doneBytes) / totalBytes);
    const left = bytesPerSecond > 0 ? `, ${formatDuration((totalBytes - doneBytes) / bytesPerSecond)} left` : '';
    // A copy counts anew what a comparison before it has counted.
    const startBytes = phase === this.#start?.phase ? this.#start.doneBytes : 0;
    const moved = phase !== 'open' && doneBytes > startBytes;
    this.#last = {
      text: `${percent} % · ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)} · ${formatRate(Math.round(bytesPerSecond))}${left}${limitText(limit)}${bottleneck ? ` · slowest: ${bottleneck}` : ''}`,
      phase,
      disk: this.#disk,
      doneBytes,
      totalBytes,
      bytesPerSecond: Math.round(bytesPerSecond),
      attempt: activityInfo().attempt,
      ...(bottleneck && { bottleneck }),
      ...(Number.isFinite(limit) && { limitBytesPerSecond: limit }),
      ...(this.comparison && { comparison: this.comparison }),
      ...(moved ? { stalled: 0 } : { stalled: this.#stalledBefore + 1, stalledSince: this.#stalledSince }),
    };
    heartbeat(this.#last);
  }

  /** Says again what was said last: a slow moment is not a dead worker. */
  repeat(): void {
    if (this.#last) heartbeat(this.#last);
  }

  /** How long to wait after a failure: longer each time nothing was moved, so that a busy host is left in peace. */
  get retryDelayMs(): number {
    return Math.min(FIRST_RETRY_MS * 2 ** (this.#last?.stalled ?? 0), LONGEST_RETRY_MS);
  }

  /** The attempt ends because it was told to: that is no stall, and the time until the next one is not lost either. */
  stoppedOnPurpose(): void {
    if (!this.#last) return;
    const { stalledSince: _over, ...last } = this.#last;
    heartbeat({ ...last, stalled: this.#stalledBefore });
  }
}

function limitText(limit: number): string {
  if (!Number.isFinite(limit)) return '';
  return limit === 0 ? ', waits: the limit of these hours is 0' : `, limited to ${formatRate(limit)}`;
}
