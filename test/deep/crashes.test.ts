import { dirname } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { setVddkFaults } from '../../lab/vddk/libdir.js';
import type { ImportRecord } from '../../lab/xcpng/admin.js';
import { Bench, MIB, plain, waitFor, type Run } from '../e2e/harness.js';
import { announced, broken, bytesOf, bytesTwice, LoggingNbdkit, overlapping, readTwice } from '../../lab/wire.js';
import { startTransferWorker, type TestWorker } from '../e2e/workers.js';

/** Small, so that a disk has many. */
const SEGMENT = 4 * MIB;
const KIB_PER_SECOND = 3 * 1024;
/** Until a worker is known to be dead, and the next attempt begins: 30 s, and what a busy machine adds. */
const TAKEOVER_MS = 30_000 + 10_000;

/** Of the second disk, without a hole: what a stopped PUT lacks is bytes, and not only the end marker. */
const DATA_BYTES = 32 * MIB;
const VMS = ['butchered', 'orphaned', 'sleeper'];
const DATA_STEP = 'base:Hard disk 2';

let bench: Bench;
let nbdkit: LoggingNbdkit;

beforeAll(async () => {
  bench = await Bench.start(VMS.map((name) => ({ ...plain(name), boots: false, dataDiskBytes: [DATA_BYTES] })));
  await Promise.all(VMS.map((vm) => bench.fillDataDisk(vm, DATA_BYTES)));
  nbdkit = await LoggingNbdkit.in(dirname(bench.config.path));
  await setVddkFaults(bench.lab.description.vddkLibdir, { bandwidth_kib: KIB_PER_SECOND });
});

afterAll(() => bench?.stop());

const worker = (name: string, queue?: string) =>
  startTransferWorker(bench, name, queue, { nbdkit: nbdkit.command, segmentBytes: SEGMENT });

/** Starts a migration whose disks are copied by that worker, and waits until a PUT in the middle of the large one writes. */
async function inMidDisk(vm: string, { queue }: TestWorker) {
  const run = await bench.migrate(vm, { transferQueue: queue, policy: { transport: 'vddk' } });
  const { disks } = await run.records('The target VM was created');
  const vdiUuid = disks[1]?.vdiUuid ?? '';
  await waitFor(`${vm} to be in mid-disk`, async () => isInMidDisk(await putsTo(vdiUuid)));
  return { run, vdiUuid };
}

const putsTo = async (vdiUuid: string) => (await bench.pool.imports()).filter((put) => put.vdiUuid === vdiUuid);
const isWriting = ({ finishedAt, writtenBytes }: ImportRecord) =>
  finishedAt === undefined && writtenBytes > 0 && writtenBytes < SEGMENT;
const isInMidDisk = (puts: ImportRecord[]) => puts.length > 1 && puts.some(isWriting);

/**
 * Stops a worker while a PUT to the disk is neither at its beginning nor at its end. What it had sent already may still
 * arrive and complete the PUT; then it goes on and is stopped again.
 *
 * @returns That PUT, to which nothing comes any more.
 */
async function stopInMidPut(sleeper: TestWorker, vdiUuid: string): Promise<ImportRecord> {
  return waitFor('a PUT to be cut', async () => {
    if (!isInMidDisk(await putsTo(vdiUuid))) return undefined;
    await sleeper.kill('SIGSTOP');
    const open = await settled(vdiUuid);
    if (open !== undefined) return open;
    await sleeper.kill('SIGCONT');
    return undefined;
  });
}

/** The PUT that is open, once nothing has come to it for a second. */
async function settled(vdiUuid: string): Promise<ImportRecord | undefined> {
  let seen = '';
  let since = Date.now();
  return waitFor('the disk to rest', async () => {
    const puts = await putsTo(vdiUuid);
    const now = JSON.stringify(puts);
    if (now !== seen) [seen, since] = [now, Date.now()];
    return Date.now() - since > 1_000 && { open: puts.find(isWriting) };
  }).then(({ open }) => open);
}

/** Waits until another attempt at the large disk has begun. @returns How long after that moment, in milliseconds. */
async function takeover({ id }: Run, since: number): Promise<number> {
  return waitFor('the next attempt', async () => {
    const { raw } = await bench.temporal.workflow.getHandle(id).describe();
    const step = raw.pendingActivities?.find(({ activityId }) => activityId === DATA_STEP);
    const { seconds, nanos } = step?.lastStartedTime ?? {};
    const startedAt = Number(seconds ?? 0) * 1000 + Number(nanos ?? 0) / 1e6;
    return (step?.attempt ?? 0) > 1 && startedAt > since && startedAt - since;
  });
}

/** One VM, and the disks it began with; both sides equal. @returns What was sent to the large disk, and what was read twice of each. */
async function endsWhole(vm: string, run: Run, vdiUuid: string) {
  const { disks } = await run.goTo('acceptance');
  expect(disks[1]?.vdiUuid).toBe(vdiUuid);
  const report = await run.accept();
  expect(await run.comparesEqual(report)).toEqual([true, true]);
  expect(report.leftovers).toEqual([]);
  const puts = await putsTo(vdiUuid);
  expect(overlapping(puts)).toEqual([]);
  expect(puts.length).toBeGreaterThan(3);
  return { puts, bytesReadTwice: Math.max(...readTwice(await nbdkit.served(`] ${vm}/`))) };
}

describe.concurrent('a crash in the middle of a disk', () => {
  it('[D1] of the worker: another goes on within 30 s, and sends and reads again the segment in flight, no more', async () => {
    const first = await worker('butchered');
    const { run, vdiUuid } = await inMidDisk('butchered', first);
    const { id } = await stopInMidPut(first, vdiUuid);
    const killedAt = Date.now();
    await first.kill('SIGKILL');
    await worker('butchered');
    expect(await takeover(run, killedAt)).toBeLessThanOrEqual(TAKEOVER_MS);
    const { puts, bytesReadTwice } = await endsWhole('butchered', run, vdiUuid);
    const cut = broken(puts);
    expect(cut.map((put) => put.id)).toEqual([id]);
    expect(bytesTwice(announced(puts))).toBe(bytesOf(announced(cut)));
    expect(bytesReadTwice).toBeGreaterThan(0);
    expect(bytesReadTwice).toBeLessThanOrEqual(SEGMENT);
  });

  it('[D1] of nbdkit: the PUT under way waits for the new one, and nothing is sent again', async () => {
    const { run, vdiUuid } = await inMidDisk('orphaned', await worker('orphaned'));
    const before = await nbdkit.served('] orphaned/');
    const serving = before.find(({ file, pid }) => file.includes('_1') && isAlive(pid));
    if (serving === undefined) throw new Error(`no nbdkit serves the large disk: ${JSON.stringify(before)}`);
    process.kill(serving.pid, 'SIGKILL');
    const { puts, bytesReadTwice } = await endsWhole('orphaned', run, vdiUuid);
    expect(broken(puts)).toEqual([]);
    expect(bytesTwice(announced(puts))).toBe(0);
    expect(bytesReadTwice).toBeLessThanOrEqual(SEGMENT);
    expect((await nbdkit.served('] orphaned/')).length).toBeGreaterThan(before.length);
  });

  it('of a worker that only sleeps: its successor takes the disk, and what it sends on waking lands nowhere (R17)', async () => {
    const sleeper = await worker('sleeper');
    const { run, vdiUuid } = await inMidDisk('sleeper', sleeper);
    const { id } = await stopInMidPut(sleeper, vdiUuid);
    await worker('sleeper-2', sleeper.queue);
    // It wakes while its successor writes. Its open polls may have swallowed an attempt or two before that one.
    const later = async () => (await putsTo(vdiUuid)).filter((put) => put.id > id);
    await waitFor('the successor to write', async () => (await later()).some(isWriting), 150_000);
    const wokenAt = Date.now();
    await sleeper.kill('SIGCONT');
    const { puts, bytesReadTwice } = await endsWhole('sleeper', run, vdiUuid);
    // On waking it hears that it was replaced, and ends its PUT with the end marker, or first sends into the void: then
    // the pool fails it. Either way it was open until then, and nothing came into the disk by it since the successor's.
    expect(broken(puts).filter((put) => put.id !== id)).toEqual([]);
    const cut = puts.filter((put) => put.id === id);
    const [next] = await later();
    expect(Date.parse(cut[0]?.finishedAt ?? '')).toBeGreaterThanOrEqual(wokenAt);
    expect(Date.parse(cut[0]?.lastWriteAt ?? '')).toBeLessThan(Date.parse(next?.startedAt ?? ''));
    expect(bytesTwice(announced(puts))).toBe(bytesOf(announced(cut)));
    expect(bytesReadTwice).toBeLessThanOrEqual(SEGMENT);
  });
});

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
