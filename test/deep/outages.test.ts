import { afterAll, beforeAll, expect, it } from 'vitest';
import type { ImportRecord } from '../../lab/xcpng/admin.js';
import { announced, broken, bytesTwice, overlapping } from '../../lab/wire.js';
import { Bench, failureOf, MIB, plain, waitFor, type Run } from '../e2e/harness.js';
import { crashTemporal, crashWorker } from '../e2e/workers.js';

const SEGMENT = 4 * MIB;
/** The second disk, without a hole. */
const DATA_BYTES = 48 * MIB;

let bench: Bench;

beforeAll(async () => {
  const vm = { ...plain('survivor'), boots: false, dataDiskBytes: [DATA_BYTES] };
  bench = await Bench.start([vm], undefined, { segmentBytes: SEGMENT });
  await bench.fillDataDisk('survivor', DATA_BYTES);
});

afterAll(() => bench?.stop());

/** Both sides forget who we are, as after days of silence. */
async function expireSessions(): Promise<void> {
  expect(await bench.vsphere.expireSessions()).toBeGreaterThan(0);
  await bench.pool.fault({ kind: 'expireSessions' });
}

const putsTo = async (vdiUuid: string) => (await bench.pool.imports()).filter((put) => put.vdiUuid === vdiUuid);
const isWriting = ({ finishedAt, writtenBytes }: ImportRecord) => finishedAt === undefined && writtenBytes > 0;

/** `kill -9` of the host while a PUT to the disk writes; it boots again with what it had. @returns How many it took to hit one. */
async function crashHostInMidPut(vdiUuid: string): Promise<number> {
  for (let crashes = 1; ; crashes += 1) {
    await waitFor('a PUT that writes', async () => (await putsTo(vdiUuid)).some(isWriting));
    await bench.lab.pool.kill();
    await bench.lab.pool.restart();
    if (broken(await putsTo(vdiUuid)).length > 0) return crashes;
  }
}

/** Waits until more comes into the disk than has. */
async function goesOn(vdiUuid: string): Promise<void> {
  const written = async () => (await putsTo(vdiUuid)).reduce((sum, { writtenBytes }) => sum + writtenBytes, 0);
  const before = await written();
  await waitFor('the copy to go on', async () => (await written()) > before);
}

/** As a person does whose shell says that nobody answers yet. */
async function sayUntilHeard(run: Run, name: 'acceptTestCopy' | 'approveCutover', reason: string): Promise<void> {
  await waitFor(`${name} to be heard`, async () => {
    const failed = await failureOf(run.say(name, { reason })).catch(() => undefined);
    return failed === undefined || failed.type === 'WrongStage';
  });
}

it('[S109] [S148] a migration outlives the host, the server, the workers and its sessions, and keeps what people said', async () => {
  // Reads are slow, so that misfortune meets a copy.
  await bench.vsphere.addRule({ method: '/folder', count: 10_000, seconds: 0.7 });
  const run = await bench.migrate('survivor', { policy: { transport: 'https' } });
  const { disks } = await run.records('The target VM was created');
  const vdiUuid = disks[1]?.vdiUuid ?? '';
  const crashes = await crashHostInMidPut(vdiUuid);
  await goesOn(vdiUuid);
  await expireSessions();
  await goesOn(vdiUuid);
  await crashTemporal(bench);
  await bench.vsphere.clearRules();

  await run.reaches('verification');
  const puts = await putsTo(vdiUuid);
  expect(overlapping(puts)).toEqual([]);
  // Each of them doubts at most the segment in flight: crashes of the host, the sessions' end, the server's.
  expect(bytesTwice(announced(puts))).toBeLessThanOrEqual((crashes + 2) * SEGMENT);

  await expireSessions();
  await Promise.all([crashWorker(bench, 'orchestrator'), crashWorker(bench, 'transfer')]);
  await sayUntilHeard(run, 'acceptTestCopy', 'the shop answers');
  await crashTemporal(bench);
  await crashWorker(bench, 'orchestrator');
  await run.reaches('cutover-approval');
  await expireSessions();
  await sayUntilHeard(run, 'approveCutover', 'the window is open');

  await run.reaches('power-off');
  await bench.vsphere.shutdown('survivor');
  await waitFor('the outage', async () => (await run.status()).sourcePower?.now === 'poweredOff');
  await crashWorker(bench, 'orchestrator');
  expect((await run.reaches('acceptance')).disks.map((disk) => disk.vdiUuid)).toEqual(
    disks.map((disk) => disk.vdiUuid),
  );
  const report = await run.accept();
  expect(await run.comparesEqual(report)).toEqual([true, true]);
  expect(report.leftovers).toEqual([]);
  const word = report.record.find(({ text }) => text === 'acceptTestCopy was accepted.');
  expect(word).toMatchObject({ by: 'olga', reason: 'the shop answers' });
  expect(Date.parse(word?.at ?? '')).toBeGreaterThan(0);
});
