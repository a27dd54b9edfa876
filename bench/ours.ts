import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { NbdClient } from '../src/nbd/index.js';
import {
  copyPass,
  createHasher,
  Throttle,
  planFromAreas,
  planFromMap,
  type Checkpoint,
  type Plan,
} from '../src/transfer/index.js';
import { Limits } from './limits.js';
import { openSegmentPut } from '../src/xapi/upload/index.js';

/** What one run of our mover has to do; it comes as JSON in the first argument. */
export interface Job {
  /** NBD sockets of the disks, all copied at once. */
  sockets: string[];
  /** Port of the sink, and the certificate it presents. */
  port: number;
  caFile: string;
  /** False: the row that shows what digests cost. */
  digests: boolean;
  /** `offset length` lines: a delta of these. Else the disk's map, as a base pass. */
  areasFile?: string;
  /** Ends after the map. */
  mapOnly?: boolean;
  /** Warms up first: a worker has copied before, and its code is compiled. */
  warm?: boolean;
  /** MiB/s for all disks together, for equal shares of the bytes one after the other. */
  limits?: number[];
  /** Copies as activities of a Temporal worker in this process, one for each disk. */
  temporal?: { address: string };
}

/** What it took, start of the process and loading of modules apart. */
export interface Taken {
  wall: number;
  user: number;
  sys: number;
  /** Peak of the process, MiB. */
  rss: number;
  loopP99Ms?: number;
  loopMaxMs?: number;
  /** Seconds after which each disk was done. */
  done?: number[];
  /** Of each limit: what was measured, over what was asked. */
  held?: number[];
}

const RESOLUTION_MS = 5;
const KIB = 1024;
const MIB = 1024 * KIB;
/** The line that says that the clock starts now. */
export const READY = 'ready';
/** PUTs before that line. */
export const WARM_UPS = 6;

/** One disk from its NBD socket to the sink, with the product's own parts: what `copyDisk` does between vSphere and XAPI. */
async function copy(
  job: Job,
  socketPath: string,
  ca: string,
  beat?: (details: unknown) => void,
  given?: Plan,
  limits?: Limits,
): Promise<void> {
  const openReader = () => NbdClient.connect({ socketPath });
  let saved: Checkpoint | undefined;
  const plan = given ?? (await planOf(job, openReader));
  if (job.mapOnly === true) return;
  await copyPass({
    ...{ plan, openReader, pass: 'bench', snapshot: 'bench', signal: new AbortController().signal },
    checkpoints: { load: async () => saved, save: async (checkpoint) => void (saved = checkpoint) },
    sink: {
      open: async (_segment, signal) => {
        const writer = await openSegmentPut({
          ...{ host: { url: `https://127.0.0.1:${job.port}`, tls: { ca } }, sessionId: 's', taskRef: 't', vdiRef: 'v' },
          ...{ taskOutcome: async () => ({ status: 'success' }), signal },
        });
        return limits?.watching(writer) ?? writer;
      },
    },
    ...(limits === undefined ? {} : { throttle: new Throttle(() => Infinity, limits.throttle) }),
    ...(beat === undefined ? {} : { onProgress: beat }),
    ...(job.digests ? {} : { openChain: async (value, chunks) => ({ value, chunks, add: () => undefined }) }),
  });
}

async function planOf({ areasFile }: Job, connect: () => Promise<NbdClient>): Promise<Plan> {
  const client = await connect();
  try {
    if (areasFile === undefined) return await planFromMap('base', client.sizeBytes, client.mapExtents());
    const lines = (await readFile(areasFile, 'utf8')).trim().split('\n');
    const areas = lines
      .map((line) => line.split(' ').map(Number))
      .map(([offset = 0, length = 0]) => ({ offset, length }));
    return await planFromAreas('delta', client.sizeBytes, areas);
  } finally {
    await client.close();
  }
}

/** CPU of this process and lateness of its event loop, from now until the result is called. */
function measure(): () => Omit<Taken, 'wall' | 'done'> {
  const loop = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  loop.enable();
  const before = process.cpuUsage();
  return () => {
    const { user, system } = process.cpuUsage(before);
    loop.disable();
    const late = (nanoseconds: number) => Math.max(0, nanoseconds / 1e6 - RESOLUTION_MS);
    return {
      ...{ user: user / 1e6, sys: system / 1e6, rss: peakMiB() },
      ...{ loopP99Ms: late(loop.percentile(99)), loopMaxMs: late(loop.max) },
    };
  };
}

/** Not `resourceUsage().maxRSS`: a child inherits its parent's peak there. */
function peakMiB(): number {
  return Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) / 1024;
}

async function main(): Promise<void> {
  const job = JSON.parse(process.argv[2] ?? '') as Job;
  const ca = await readFile(job.caFile, 'utf8');
  await createHasher(); // the native module is loaded
  const asActivities = job.temporal && (await import('./temporal.js')).asActivities;
  if (job.warm === true) await warmUp(job, ca);
  process.stdout.write(`${READY}\n`);
  await sleep(50);

  let firstAt = Infinity;
  let taken: ReturnType<typeof measure> | undefined;
  const ends: number[] = [];
  const limits = job.limits === undefined ? undefined : new Limits(job.limits, await bytesOf(job));
  const copies = job.sockets.map((socket) => async (beat?: (details: unknown) => void) => {
    firstAt = Math.min(firstAt, performance.now());
    taken ??= measure();
    await copy(job, socket, ca, beat, undefined, limits);
    ends.push(performance.now());
  });
  await (asActivities?.(job.temporal?.address ?? '', copies) ?? Promise.all(copies.map((run) => run())));
  const done = ends.map((at) => (at - firstAt) / 1000);
  const held = limits === undefined ? {} : { held: limits.held() };
  process.stdout.write(
    `${JSON.stringify({ ...(taken ?? measure())(), wall: Math.max(...done), done, ...held } satisfies Taken)}\n`,
  );
}

/** What all disks hold together. */
async function bytesOf(job: Job): Promise<number> {
  const plan = await planOf(job, () => NbdClient.connect({ socketPath: job.sockets[0] ?? '' }));
  return plan.plannedBytes * job.sockets.length;
}

/**
 * Maps, and passes of few large and many small chunks, all over the disk: after thousands of calls, by more than one
 * connection, V8 has compiled what it will compile.
 */
async function warmUp(job: Job, ca: string): Promise<void> {
  const [socketPath = ''] = job.sockets;
  const connect = () => NbdClient.connect({ socketPath });
  const { virtualSizeBytes: sizeBytes } = await planOf(job, connect);
  const step = Math.floor(sizeBytes / 2048 / (16 * KIB)) * 16 * KIB;
  const small = Array.from({ length: 2047 }, (_, index) => ({ offset: (index + 1) * step, length: 16 * KIB }));
  for (let turn = 0; turn < WARM_UPS; turn++) {
    const kind = turn % 2 === 0 ? 'delta' : 'base';
    await planOf(job, connect);
    await copy(job, socketPath, ca, undefined, {
      ...(await planFromAreas(kind, sizeBytes, [{ offset: 0, length: 16 * MIB }])),
      ranges: [{ offset: 0, length: 16 * MIB }, ...small],
      plannedBytes: 16 * MIB + small.length * 16 * KIB,
    });
  }
  await sleep(300);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
