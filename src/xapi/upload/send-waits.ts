import { execFile } from 'node:child_process';
import type { Socket } from 'node:net';
import { promisify } from 'node:util';

const LOOK_MS = 2_000;
/** Less sending than this says nothing: the kernel counts by ticks of some milliseconds. */
const LEAST_BUSY_MS = 100;

/** What the kernel counts of a connection: time with something to send, and of that, time in which the receiver's window was full. */
interface Counts {
  busyMs: number;
  windowMs: number;
  /** What has arrived. */
  ackedBytes: number;
}

/**
 * Whom a connection that sends waits for: the network, or the receiver, who leaves its window full because it takes bytes
 * slowly. Linux counts both (`tcpi_busy_time`, `tcpi_rwnd_limited`), and `ss` of iproute2 shows them to everyone; where it
 * is missing nothing is told. No byte is sent for it.
 */
export class SendWaits {
  readonly #socket: Socket;
  readonly #timer: NodeJS.Timeout;
  #counts: Counts = { busyMs: 0, windowMs: 0, ackedBytes: 0 };
  #linkShare: number | undefined;
  #rate: number | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#timer = setInterval(() => void this.look(), LOOK_MS).unref();
  }

  /** Share of the waiting that was the network's when it was looked last, 0 to 1. */
  get linkShare(): number | undefined {
    return this.#linkShare;
  }

  /** What the network carried while it was what was waited for. */
  get linkBytesPerSecond(): number | undefined {
    return this.#rate;
  }

  async look(): Promise<void> {
    const { localPort, remotePort } = this.#socket;
    if (localPort === undefined || remotePort === undefined) return;
    const now = await countsOf(localPort, remotePort).catch(() => undefined);
    if (now === undefined) return;
    const busy = now.busyMs - this.#counts.busyMs;
    const networkMs = now.busyMs - now.windowMs;
    if (networkMs >= LEAST_BUSY_MS) this.#rate = Math.round((1000 * now.ackedBytes) / networkMs);
    if (busy < LEAST_BUSY_MS) return;
    this.#linkShare = 1 - Math.min(1, (now.windowMs - this.#counts.windowMs) / busy);
    this.#counts = now;
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}

async function countsOf(localPort: number, remotePort: number): Promise<Counts | undefined> {
  const { stdout } = await promisify(execFile)(
    'ss',
    ['-tinHO', 'sport', '=', `:${localPort}`, 'and', 'dport', '=', `:${remotePort}`],
    { timeout: LOOK_MS },
  );
  return parseCounts(stdout);
}

/** @returns Undefined where there is no such connection, or the kernel does not count. */
export function parseCounts(text: string): Counts | undefined {
  const count = (name: string) => Number(new RegExp(`\\b${name}:(\\d+)`).exec(text)?.[1] ?? 0);
  const busyMs = count('busy');
  if (busyMs === 0) return undefined;
  return { busyMs, windowMs: count('rwnd_limited'), ackedBytes: count('bytes_acked') };
}
