import { execFile } from 'node:child_process';
import { isIPv6, type Socket } from 'node:net';
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

/** The connections that send now. One call of `ss` looks at all of them, and none is made while there are none. */
const sending = new Set<SendWaits>();
let timer: NodeJS.Timeout | undefined;
let look: Promise<void> | undefined;

/**
 * Whom a connection that sends waits for: the network, or the receiver, who leaves its window full because it takes bytes
 * slowly. Linux counts both (`tcpi_busy_time`, `tcpi_rwnd_limited`), and `ss` of iproute2 shows them to everyone; where it
 * is missing nothing is told. No byte is sent for it.
 */
export class SendWaits {
  readonly #socket: Socket;
  #counts: Counts = { busyMs: 0, windowMs: 0, ackedBytes: 0 };
  #linkShare: number | undefined;
  #rate: number | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    sending.add(this);
    timer ??= setInterval(() => void this.look(), LOOK_MS).unref();
  }

  /** Share of the waiting that was the network's when it was looked last, 0 to 1. */
  get linkShare(): number | undefined {
    return this.#linkShare;
  }

  /** What the network carried while it was what was waited for. */
  get linkBytesPerSecond(): number | undefined {
    return this.#rate;
  }

  /** Its ports, as they tell the connections of one host apart. */
  get ports(): { local: number; peer: string } | undefined {
    const { localPort: local, remoteAddress: host = '', remotePort } = this.#socket;
    return local === undefined ? undefined : { local, peer: `${isIPv6(host) ? `[${host}]` : host}:${remotePort}` };
  }

  /** Of all that send. */
  look(): Promise<void> {
    return (look ??= lookAtAll().finally(() => (look = undefined)));
  }

  tell(now: Counts): void {
    const busy = now.busyMs - this.#counts.busyMs;
    const networkMs = now.busyMs - now.windowMs;
    if (networkMs >= LEAST_BUSY_MS) this.#rate = Math.round((1000 * now.ackedBytes) / networkMs);
    if (busy < LEAST_BUSY_MS) return;
    this.#linkShare = 1 - Math.min(1, (now.windowMs - this.#counts.windowMs) / busy);
    this.#counts = now;
  }

  stop(): void {
    sending.delete(this);
    if (sending.size > 0) return;
    clearInterval(timer);
    timer = undefined;
  }
}

async function lookAtAll(): Promise<void> {
  const all = [...sending].flatMap((one) => (one.ports ? [{ one, ...one.ports }] : []));
  if (all.length === 0) return;
  const filter = all.map(({ local, peer }) => `( sport = :${local} and dst = ${peer} )`).join(' or ');
  const { stdout } = await promisify(execFile)('ss', ['-tinHO', filter], { timeout: LOOK_MS }).catch(() => ({
    stdout: '',
  }));
  const lines = stdout.split('\n');
  for (const { one, local, peer } of all) {
    const counts = lines.find((line) => line.includes(`:${local} `) && line.includes(` ${peer} `));
    const now = counts === undefined ? undefined : parseCounts(counts);
    if (now) one.tell(now);
  }
}

/** @returns Undefined where the kernel does not count. */
function parseCounts(text: string): Counts | undefined {
  const count = (name: string) => Number(new RegExp(`\\b${name}:(\\d+)`).exec(text)?.[1] ?? 0);
  const busyMs = count('busy');
  if (busyMs === 0) return undefined;
  return { busyMs, windowMs: count('rwnd_limited'), ackedBytes: count('bytes_acked') };
}
