import { mkdir, open, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { seededBytes } from '../../lab/disks/random.js';
import { announced, bytesOf, bytesTwice, overlapping, readTwice } from '../../lab/wire.js';
import type { Job } from './attempt.js';
import { Dice } from './dice.js';
import type { Place } from './place.js';
import { openWire } from './wire-cutter.js';

const MIB = 1024 ** 2;
const SEGMENT_BYTES = 2 * MIB;
/** Slow enough that some seconds go by in the middle of a disk. */
const BITS_PER_SECOND = 24 * MIB;
/** The host is hit less often: its crash is everybody's, and the next writer waits a quarter of a minute for it. */
const FAULTS = ['worker', 'worker', 'nbdkit', 'nbdkit', 'connection', 'connection', 'host'] as const;
const MOST_ATTEMPTS = 100;
const ATTEMPT = fileURLToPath(new URL('./attempt.js', import.meta.url));

export type FaultKind = (typeof FAULTS)[number];

export interface RunResult {
  faults: FaultKind[];
  attempts: number;
  plannedBytes: number;
  sentBytes: number;
  sentTwiceBytes: number;
  readTwiceBytes: number;
  /** What must not be; empty. */
  wrong: string[];
}

/** Copies one disk of its own into a VDI of its own, while things die at random moments. */
export async function chaosRun(place: Place, seed: number, number: number): Promise<RunResult> {
  const dice = new Dice(seed * 100_003 + number);
  const folder = join(place.folder, `run-${number}`);
  const runDir = join(folder, 'nbdkit');
  await mkdir(runDir, { recursive: true });
  const disk = join(folder, 'disk.raw');
  const sizeBytes = await makeDisk(disk, dice, `${seed} ${number}`);
  const vdiUuid = await place.createVdi(sizeBytes);
  const { hostname, port } = new URL(place.pool.url);
  const wire = await openWire(hostname, Number(port));
  const poolKillsBefore = place.hostCrashes;
  const faults: FaultKind[] = [];
  let worker: ReturnType<typeof startAttempt> | undefined;
  let plannedBytes: number | undefined;
  let last = '';

  const misfortune = async () => {
    const { path } = (await place.ask((admin) => admin.vdis()))[vdiUuid] ?? { path: '' };
    const written = async () => (await stat(path)).blocks;
    for (let left = 1 + dice.below(4); left > 0; left--) {
      // Not before the disk goes on: a process that is only starting is no prey.
      for (const before = await written(); (await written()) <= before;) {
        if (plannedBytes !== undefined || attempts >= MOST_ATTEMPTS) return;
        await sleep(50);
      }
      await sleep(dice.below(1_500));
      if (plannedBytes !== undefined) return;
      const kind = dice.oneOf(FAULTS);
      if (kind === 'worker') worker?.kill('SIGKILL');
      else if (kind === 'nbdkit') await killNbdkits(runDir);
      else if (kind === 'connection') wire.cut();
      else await place.crashHost(dice.below(1_000));
      faults.push(kind);
    }
  };
  let attempts = 0;
  const troubles = misfortune();
  while (plannedBytes === undefined && attempts < MOST_ATTEMPTS) {
    attempts++;
    worker = startAttempt({
      pool: { ...place.pool, url: `https://127.0.0.1:${wire.port}` },
      ...{ vdiUuid, disk, sizeBytes, runDir, nbdkit: place.nbdkit.command },
      ...{ segmentBytes: SEGMENT_BYTES, bitsPerSecond: BITS_PER_SECOND },
      writerId: `chaos/${number}/${attempts}@${Date.now()}`,
    });
    const { exitCode, stdout, stderr } = await worker;
    if (exitCode === 0) plannedBytes = Number(stdout);
    else last = stderr || last;
    if (exitCode !== 0) await sleep(500);
  }
  await troubles;
  await wire.close();

  const puts = (await place.ask((admin) => admin.imports())).filter((put) => put.vdiUuid === vdiUuid);
  const read = Math.max(0, ...readTwice(await place.nbdkit.served(disk)));
  // The crash of the host is everybody's.
  const others = place.hostCrashes - poolKillsBefore - faults.filter((kind) => kind === 'host').length;
  const allowed = (faults.length + others) * SEGMENT_BYTES;
  const sentTwice = bytesTwice(announced(puts));
  const wrong = [
    ...(plannedBytes === undefined ? [`not done after ${attempts} attempts; last: ${last}`] : []),
    ...((await isEqual(disk, (await place.ask((admin) => admin.vdis()))[vdiUuid]?.path ?? ''))
      ? []
      : ['the disks differ']),
    ...(sentTwice > allowed ? [`${sentTwice} bytes were sent twice, ${allowed} were in flight at most`] : []),
    ...(read > allowed ? [`${read} bytes were read twice, ${allowed} were in flight at most`] : []),
    ...(overlapping(puts).length > 0 ? ['two PUTs wrote at once'] : []),
  ];
  await place.destroyVdi(vdiUuid);
  await rm(folder, { recursive: true, force: true });
  return {
    ...{ faults, attempts, wrong, plannedBytes: plannedBytes ?? 0 },
    ...{ sentBytes: bytesOf(announced(puts)), sentTwiceBytes: sentTwice, readTwiceBytes: read },
  };
}

function startAttempt(job: Job) {
  return execa(process.execPath, [ATTEMPT], {
    env: { CHAOS_JOB: JSON.stringify(job) },
    reject: false,
    stdin: 'ignore',
  });
}

/** Odd size; pieces of data of odd lengths between holes, some of them zeroes that are allocated. */
async function makeDisk(path: string, dice: Dice, seed: string): Promise<number> {
  const sizeBytes = 48 * MIB + 512 * (1 + dice.below(4_000));
  const file = await open(path, 'w');
  try {
    await file.truncate(sizeBytes);
    for (let at = 0, piece = 0; at < sizeBytes - 512; piece++) {
      const length = Math.min(512 * (1 + dice.below(3_000)), sizeBytes - at);
      const bytes = piece % 5 === 4 ? Buffer.alloc(length) : seededBytes(`${seed} ${piece}`, length);
      await file.write(bytes, 0, length, at);
      at += length + 512 * (1 + dice.below(6_000));
    }
  } finally {
    await file.close();
  }
  return sizeBytes;
}

async function killNbdkits(runDir: string): Promise<void> {
  for (const name of await readdir(runDir)) {
    const text = await readFile(join(runDir, name), 'utf8').catch(() => '');
    const pid = Number(/^\{"pid":(\d+)/.exec(text)?.[1]);
    try {
      if (pid > 0) process.kill(pid, 'SIGKILL');
    } catch {
      // It has ended meanwhile.
    }
  }
}

async function isEqual(source: string, target: string): Promise<boolean> {
  const [a, b] = await Promise.all([readFile(source), readFile(target)]);
  return b.length >= a.length && a.equals(b.subarray(0, a.length)) && b.subarray(a.length).every((byte) => byte === 0);
}
