import { activityInfo, heartbeat } from '@temporalio/activity';
import { failure, formatBytes, formatDuration, formatRate } from '../shared/index.js';
import type { TransferProgress } from '../shared/index.js';

/** Attempts in a row that may move nothing before a person is asked. */
const STALLED_LIMIT = 5;

/** Heartbeat of a transfer: what the Web UI shows, and what the next attempt knows of this one. */
interface Beat extends TransferProgress {
  /** Attempts in a row, this one included, that have moved nothing so far. */
  stalled: number;
}

/**
 * Reports a transfer's progress and stops it when attempt after attempt moves nothing: so a copy survives any number of
 * restarts, and yet ends when it cannot work.
 *
 * @throws NoProgress
 */
export class ProgressReporter {
  readonly #disk: string;
  readonly #stalledBefore: number;
  readonly #startBytes: number;
  #last: Beat | undefined;

  constructor(disk: string) {
    this.#disk = disk;
    const before = activityInfo().heartbeatDetails as Beat | undefined;
    this.#stalledBefore = before?.stalled ?? 0;
    this.#startBytes = before?.doneBytes ?? 0;
    if (this.#stalledBefore < STALLED_LIMIT) return;
    throw failure('NoProgress', {
      what: `${disk}: ${STALLED_LIMIT} attempts in a row moved nothing.`,
      why: 'The last failures are among the pending activities in the Web UI.',
      next: 'mend the cause, then decide `retry`.',
    });
  }

  beat(phase: TransferProgress['phase'], doneBytes: number, totalBytes: number, bytesPerSecond: number): void {
    const percent = totalBytes === 0 ? 100 : Math.floor((100 * doneBytes) / totalBytes);
    const left = bytesPerSecond > 0 ? `, ${formatDuration((totalBytes - doneBytes) / bytesPerSecond)} left` : '';
    const moved = phase !== 'open' && doneBytes > this.#startBytes;
    this.#last = {
      text: `${percent} % · ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)} · ${formatRate(Math.round(bytesPerSecond))}${left}`,
      phase,
      disk: this.#disk,
      doneBytes,
      totalBytes,
      bytesPerSecond: Math.round(bytesPerSecond),
      attempt: activityInfo().attempt,
      stalled: moved ? 0 : this.#stalledBefore + 1,
    };
    heartbeat(this.#last);
  }

  /** Says again what was said last: a slow moment is not a dead worker. */
  repeat(): void {
    if (this.#last) heartbeat(this.#last);
  }

  /** The attempt ends because it was told to: that is no stall. */
  stoppedOnPurpose(): void {
    if (this.#last) heartbeat({ ...this.#last, stalled: this.#stalledBefore });
  }
}
