import { statSync } from 'node:fs';
import { loadConfig } from '../config.js';
import type { Config } from '../config.js';
import { failureMessageOf } from '../shared/index.js';
import { Throttle } from '../transfer/index.js';

type Limits = Config['transfer']['limits'];

const MIB = 2 ** 20;
const LOOK_MS = 1_000;
const LIMIT_MS = 2_000;

/**
 * How fast this host may move blocks, by the configuration as it is now: the file is read again when it has changed, so
 * that a limit can be set while copies run. A file with a mistake changes nothing, and `warn` is told.
 */
export class Bandwidth {
  readonly #config: Config;
  readonly #warn: (text: string) => void;
  readonly #host: Throttle;
  /** Disks of one VM share what it may move. */
  readonly #migrations = new Map<string, Throttle>();
  #limits: Limits;
  #changedAt: number | undefined;
  #lookedAt = 0;
  #now = { host: Number.POSITIVE_INFINITY, disk: Number.POSITIVE_INFINITY };

  constructor(config: Config, warn: (text: string) => void = (text) => void process.stderr.write(`${text}\n`)) {
    this.#config = config;
    this.#warn = warn;
    this.#limits = config.transfer.limits;
    this.#changedAt = modifiedAt(config.path);
    this.#host = new Throttle(() => this.#look().host);
  }

  /**
   * The limit of one transfer, which counts towards its migration's and the host's.
   *
   * @param ask What the migration itself may move, in bytes per second. Asked every other second while something moves;
   *   what it said last holds when it does not answer.
   */
  forDisk(migrationId: string, ask: () => Promise<number>): Throttle {
    let throttle = this.#migrations.get(migrationId);
    if (throttle === undefined) {
      throttle = new Throttle(askedEvery(LIMIT_MS, ask), this.#host);
      this.#migrations.set(migrationId, throttle);
    }
    return new Throttle(() => this.#look().disk, throttle);
  }

  #look(): { host: number; disk: number } {
    const at = Date.now();
    if (at - this.#lookedAt < LOOK_MS) return this.#now;
    this.#lookedAt = at;
    this.#readAgain();
    this.#now = limitsAt(this.#limits, new Date(at));
    return this.#now;
  }

  #readAgain(): void {
    const changedAt = modifiedAt(this.#config.path);
    if (changedAt === this.#changedAt) return;
    this.#changedAt = changedAt;
    try {
      this.#limits = loadConfig(this.#config.path).transfer.limits;
    } catch (error) {
      this.#warn(`The limits stay as they were: ${failureMessageOf(error)}`);
    }
  }
}

/** Bytes per second for all disks of a host and for each one, at that moment. */
export function limitsAt({ hours, ...always }: Limits, at: Date): { host: number; disk: number } {
  const { hostMiBPerSecond, diskMiBPerSecond } = hours.find((entry) => holds(entry, at)) ?? always;
  return {
    host: (hostMiBPerSecond ?? Number.POSITIVE_INFINITY) * MIB,
    disk: (diskMiBPerSecond ?? Number.POSITIVE_INFINITY) * MIB,
  };
}

/** The last answer, `Infinity` before the first one. */
function askedEvery(ms: number, ask: () => Promise<number>): () => number {
  let last = Number.POSITIVE_INFINITY;
  let nextAt = 0;
  return () => {
    if (Date.now() >= nextAt) {
      nextAt = Number.POSITIVE_INFINITY;
      ask()
        .then((now) => (last = now))
        .catch(() => undefined)
        .finally(() => (nextAt = Date.now() + ms));
    }
    return last;
  };
}

function holds({ from, to, zone }: Limits['hours'][number], at: Date): boolean {
  const clock = new Intl.DateTimeFormat('en-GB', { timeZone: zone, hour: '2-digit', minute: '2-digit' }).format(at);
  return from <= to ? from <= clock && clock < to : from <= clock || clock < to;
}

function modifiedAt(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs;
}
