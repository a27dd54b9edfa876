import { metricMeter } from '@temporalio/activity';
import type { TimeSpent } from '../shared/index.js';

const LEGS = {
  ...{ read: 'read', write: 'write', digest: 'digest', limit: 'limit' },
  ...{ readLink: 'read-link', readHost: 'read-host', writeLink: 'write-link', writeHost: 'write-host' },
} as const;

/** What a transfer has done so far; every figure only grows. */
export interface Amounts {
  bytesRead: number;
  bytesSent: number;
  spent: TimeSpent;
}

/**
 * Counts a transfer's bytes and waits where Prometheus fetches them, beside the Temporal SDK's own figures:
 *
 * - `surefire_transfer_bytes`, by `kind`: `read`, `sent`, and `zero`, which is what was read and need not be sent
 * - `surefire_transfer_wait_milliseconds`, by `leg`: `read`, `write`, `digest`, `limit`, and of the first two what is the
 *   network's and what is the far host's: `read-link`, `read-host`, `write-link`, `write-host`
 *
 * Both by vCenter, ESXi host and pool. Nothing happens where no exporter is configured.
 */
export class TransferMetrics {
  readonly #bytes;
  readonly #waits;
  #told: Amounts | undefined;

  constructor(tags: { vcenter: string; esxi: string; pool: string }) {
    const meter = metricMeter.withTags(tags);
    this.#bytes = meter.createCounter('surefire_transfer_bytes', 'By', 'Bytes of disks');
    this.#waits = meter.createCounter('surefire_transfer_wait_milliseconds', 'ms', 'Time a transfer waited for a leg');
  }

  /** The first call says what earlier attempts have counted already. */
  tell(now: Amounts): void {
    const before = this.#told;
    this.#told = now;
    if (before === undefined) return;
    const read = now.bytesRead - before.bytesRead;
    const sent = now.bytesSent - before.bytesSent;
    this.#bytes.add(read, { kind: 'read' });
    this.#bytes.add(sent, { kind: 'sent' });
    this.#bytes.add(read - sent, { kind: 'zero' });
    for (const [name, leg] of Object.entries(LEGS) as [keyof typeof LEGS, string][]) {
      this.#waits.add(Math.round(1000 * now.spent[name]) - Math.round(1000 * before.spent[name]), { leg });
    }
  }
}
