import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LabVmSpec } from '../../lab/lab.js';
import type { ImportRecord } from '../../lab/xcpng/admin.js';
import type { MigrationStatus } from '../../src/shared/index.js';
import { runCli } from '../cli/harness.js';
import { Bench, failureOf, MIB, plain, waitFor, type Run } from '../e2e/harness.js';
import { cliOf } from '../e2e/watching.js';
import { startTransferWorker, type TestWorker } from '../e2e/workers.js';
import { configFileOf } from '../e2e/world.js';

let bench: Bench;

/** The second disk of some: 24 chunks, not a hole among them. */
const DATA_BYTES = 48 * MIB;
const DATA_DISK = 'Hard disk 2';
const PERCENTS = [10, 50, 90];
const full = (name: string, bytes = DATA_BYTES): LabVmSpec => ({ ...plain(name), dataDiskBytes: [bytes] });

beforeAll(async () => {
  bench = await Bench.start([
    full('held'),
    full('clicked'),
    full('cycled'),
    full('hurried', 64 * MIB),
    plain('asked'),
    plain('hasty'),
    plain('left'),
  ]);
  await Promise.all(['held', 'clicked', 'cycled'].map((vm) => bench.fillDataDisk(vm, DATA_BYTES)));
  await bench.fillDataDisk('hurried', 64 * MIB);
});

afterAll(() => bench?.stop());

describe.concurrent('a pause', () => {
  it('[S14] at 10, 50 and 90 % of a disk stops it at a checkpoint, and nothing is sent twice', async () => {
    const { run, vdi, worker } = await startSlowly('held');
    const writers: unknown[] = [];
    for (const percent of PERCENTS) {
      await reachesPercent(run, percent);
      writers.push(await writerOf(vdi));
      await run.say('pause', { reason: `at ${percent} %` });
      const status = await stands(run);
      expect(status).toMatchObject({
        ...{ stage: 'base-copy', waitingFor: 'resume', allowed: ['resume', 'switchTransport'] },
        paused: { operator: 'olga', reason: `at ${percent} %` },
      });
      await expectStopped(run, vdi, worker);
      const before = await sentTo(vdi);
      expectAbout(percent, bytesOf(before));
      expect((await failureOf(run.say('pause', { reason: 'again' }))).message).toContain('It accepts now: resume');
      const { stdout } = await cli('status', 'held');
      expect(stdout).toMatch(new RegExp(`^Paused {5}by olga since \\S+Z: at ${percent} %$`, 'm'));
      expect(stdout).toMatch(/^Answer {5}surefire resume held$/m);
      expect(await sentTo(vdi)).toEqual(before);
      expect(await cli('resume', 'held')).toMatchObject({ exitCode: 0 });
    }
    await worker.limit();
    expect(await cli('resume', 'held')).toMatchObject({ exitCode: 13, stderr: expect.stringContaining('was refused') });
    const { record } = await run.reaches('verification');
    expectSentOnce(await sentTo(vdi));
    // A transfer that begins anew counts from attempt 1: its mark on the disk must be another all the same (R17).
    expect(new Set(writers).size).toBe(3);
    const words = record.filter(({ text }) => /^(Paused|Resumed)\./.test(text));
    expect(words.map(({ text, by, reason }) => ({ text, by, reason }))).toEqual(
      PERCENTS.flatMap((percent) => [
        { text: 'Paused.', by: 'olga', reason: `at ${percent} %` },
        { text: 'Resumed.', by: 'tester', reason: undefined },
      ]),
    );
    await finishes(run);
  });

  it('[S14] of the activity, as the Web UI makes it, ends in the same checkpoint and is shown by status', async () => {
    const { run, vdi, worker } = await startSlowly('clicked');
    const activity = {
      namespace: bench.config.temporal.namespace,
      execution: { workflowId: run.id },
      ...{ id: `base:${DATA_DISK}`, identity: 'otto', reason: 'in the Web UI' },
    };
    const service = bench.temporal.workflowService;
    for (const [index, percent] of PERCENTS.entries()) {
      await reachesPercent(run, percent);
      await service.pauseActivity(activity);
      await waitFor('the attempt to end', async () => (await dataStep(run))?.attempt === index + 2);
      await expectStopped(run, vdi, worker);
      const before = await sentTo(vdi);
      expectAbout(percent, bytesOf(before));
      const { stdout } = await cli('status', 'clicked');
      expect(stdout).toMatch(/, paused by otto since \S+Z: in the Web UI/);
      expect(await sentTo(vdi)).toEqual(before);
      if (percent === 50) await service.unpauseActivity(activity);
      else expect((await cli('resume', 'clicked')).stdout).toContain(`Resumed: base:${DATA_DISK}`);
    }
    await worker.limit();
    await run.reaches('verification');
    expectSentOnce(await sentTo(vdi));
    await finishes(run);
  });

  it('[S14] at a gate takes the answer and lets nothing follow; the clock of the clean snapshot goes on (R5)', async () => {
    await bench.foreignSnapshot('asked', 'nightly');
    const run = await bench.migrate('asked', { policy: { snapshotHours: 60 / 3600 } });
    await run.reaches('snapshot-removal');
    await run.say('pause', { reason: 'the backup runs' });
    await run.say('approveSnapshotRemoval', {});
    await run.reaches('resume');
    expect(await stepsOf(run)).toEqual([]);
    expect((await bench.sourceState('asked')).snapshots).toEqual(['nightly']);
    await run.say('resume', {});
    const { artifacts } = await run.reaches('verification');
    expect((await cli('pause', 'asked')).exitCode).toBe(2);
    expect((await cli('pause', 'asked', '--reason', 'the pool is being patched')).exitCode).toBe(0);
    expect((await bench.client.status(run.id)).waitingFor).toBe('resume');
    const held = await run.status();
    expect(held.waitingFor).toBe('verification');
    expect(held.instruction).toContain('Paused by tester since');
    await run.say('acceptTestCopy', {});
    const answered = await run.reaches('resume');
    expect(answered.stage).toBe('verification');
    await run.records('"vm without tools" was removed because its time was over');
    expect((await bench.sourceState('asked')).snapshots).toEqual([]);
    expect(Object.keys(await bench.pool.vms())).toContain(artifacts.testVmUuid);
    expect((await bench.client.status(run.id)).steps).toEqual([]);
    await run.say('resume', {});
    await run.reaches('cutover-approval');
    expect(Object.keys(await bench.pool.vms())).not.toContain(artifacts.testVmUuid);

    await run.say('pause', {});
    await run.cancel('not this year');
    const { failure, report } = await run.ends();
    expect(failure?.type).toBe('Aborted');
    expect(report?.leftovers).toEqual([]);
    expect(await bench.onPool('asked')).toEqual([]);
  });

  it('in the outage says that it goes on, and rollback needs no resume', async () => {
    const run = await bench.migrate('hasty');
    const { disks } = await run.goTo('cutover-approval');
    await bench.guestWrites('hasty');
    const before = await bench.sourceState('hasty');
    await run.say('approveCutover', {});
    await run.reaches('power-off');
    await bench.pool.fault({ kind: 'slow', vdi: disks[0]?.vdiUuid ?? '', writeMs: 4_000, times: 9 });
    await bench.vsphere.shutdown('hasty');
    await waitFor('the last delta', async () => (await stepsOf(run)).some(({ type }) => type === 'copyDisk'));
    await run.say('pause', { reason: 'wrong evening' });
    const held = await run.reaches('resume');
    expect(held.instruction).toContain('The outage goes on meanwhile.');
    expect(held.downtime).not.toHaveProperty('endedAt');
    expect((await cli('status', 'hasty')).stdout).toMatch(/^Outage {5}since \S+Z, budget/m);
    await run.say('rollback', { reason: 'another evening' });
    const back = await run.reaches('cutover-approval');
    expect(back).not.toHaveProperty('paused');
    expect(back.downtime?.seconds).toBeGreaterThan(0);
    expect(await bench.sourceState('hasty')).toEqual(before);
    await finishes(run);
  });

  it('[S17] does not hold a cancel in the middle of the first copy', async () => {
    const before = await bench.sourceState('left');
    const run = await bench.migrate('left');
    const { disks } = await run.records('The target VM was created');
    await bench.pool.fault({ kind: 'slow', vdi: disks[0]?.vdiUuid ?? '', writeMs: 400, times: 100 });
    await run.isSending();
    await run.say('pause', {});
    await run.reaches('resume');
    await run.cancel();
    expect((await run.ends()).failure?.type).toBe('Aborted');
    expect(await bench.sourceState('left')).toEqual(before);
    expect(await bench.onPool('left')).toEqual([]);
  });
});

describe.concurrent('a limit by command', () => {
  it('[S143] holds within 10 %, and is changed while its disks are copied', async () => {
    // One PUT for each disk: between the lab's short ones more time passes than a limit makes up for.
    const worker = await startTransferWorker(bench, 'hurried', undefined, { segmentBytes: 64 * MIB });
    const run = await bench.migrate('hurried', { transferQueue: worker.queue });
    expect((await cli('limit', 'hurried', '0')).exitCode).toBe(2);
    expect(await cli('limit', 'hurried', '4')).toMatchObject({ exitCode: 0 });
    const { disks } = await run.records('The target VM was created');
    const sent = () => sentTo(disks[1]?.vdiUuid ?? '');
    const hears = (mibPerSecond: number) =>
      waitFor(`${mibPerSecond} MiB/s to be heard`, async () => {
        const limits = (await stepsOf(run)).map(({ progress }) => progress?.limitBytesPerSecond);
        return limits.length > 0 && limits.every((limit) => limit === mibPerSecond * MIB);
      });
    await hears(4);
    const { stdout } = await cli('status', 'hurried');
    expect(stdout).toMatch(/^Limit {6}4\.0 MiB\/s for all its disks together, by tester since \S+Z$/m);
    expect(stdout).toMatch(/^Now .*limit 4\.0 MiB\/s/m);
    // Of the first disk half is zeroes, which are read at the limit's pace and not sent.
    await waitFor('the first disk', async () => (await stepsOf(run)).length === 1);
    expectNear(await rateOver(sent, 8 * MIB), 4 * MIB);
    await run.say('setLimit', { mibPerSecond: 2, reason: 'the backup runs' });
    await hears(2);
    expectNear(await rateOver(sent, 6 * MIB), 2 * MIB);
    expect((await failureOf(run.say('setLimit', { mibPerSecond: -1 }))).message).toContain('surefire pause hurried');
    expect(await cli('limit', 'hurried', 'off')).toMatchObject({ exitCode: 0 });
    const { record, limit } = await run.reaches('verification');
    expect(limit).toBeUndefined();
    const words = record.filter(({ text }) => /limit/i.test(text)).map(({ text, by, reason }) => [text, by, reason]);
    expect(words).toEqual([
      ['Limited to 4 MiB/s.', 'tester', undefined],
      ['Limited to 2 MiB/s.', 'olga', 'the backup runs'],
      ['No limit of its own any more.', 'tester', undefined],
    ]);
    await finishes(run);
  });
});

describe.concurrent('ten pauses', () => {
  it('[S14] [S15] with crashes of the worker before, in and after them leave one VM and one VDI for each disk', async () => {
    const { run, vdi, worker } = await startSlowly('cycled');
    // A chunk at once, and the next one eight seconds later: none of ten rounds reaches the end.
    await worker.limit(0.25);
    let crash = worker.kill;
    const crashes = async () => {
      await crash('SIGKILL');
      crash = (await startTransferWorker(bench, 'cycled')).kill;
    };
    for (let round = 1; round <= 10; round += 1) {
      const sent = bytesOf(await sentTo(vdi));
      await waitFor('the next bytes', async () => bytesOf(await sentTo(vdi)) > sent);
      if (round === 4) await crash('SIGKILL');
      await run.say('pause', { reason: `round ${round}` });
      if (round === 4) crash = (await startTransferWorker(bench, 'cycled')).kill;
      if (round === 6) await crashes();
      // The last time the resume comes before the transfers have reported that they stopped.
      if (round < 10) expect((await stands(run)).stage).toBe('base-copy');
      if (round === 2) await crashes();
      expect(await ownedBy(run)).toEqual({ VM: 1, VDI: 2 });
      await run.say('resume', {});
      if (round === 8) await crashes();
    }
    await worker.limit();
    await run.reaches('verification');
    await finishes(run);
    expect(await ownedBy(run)).toEqual({ VM: 1, VDI: 2 });
  }, 400_000);
});

/** Starts a migration whose disks are copied slowly, by a worker of its own. */
async function startSlowly(vm: string): Promise<{ run: Run; vdi: string; worker: TestWorker }> {
  const worker = await startTransferWorker(bench, vm);
  await worker.limit(1);
  const run = await bench.migrate(vm, { transferQueue: worker.queue });
  const { disks } = await run.records('The target VM was created');
  return { run, vdi: disks[1]?.vdiUuid ?? '', worker };
}

const cli = (...args: string[]) => runCli([...args, '--config', configFileOf(bench)], cliOf(bench));

const stepsOf = async (run: Run) => (await bench.client.status(run.id)).steps;
const dataStep = async (run: Run) => (await stepsOf(run)).find(({ activityId }) => activityId === `base:${DATA_DISK}`);

/** A little before, because it takes a second or two until a pause is heard. */
function reachesPercent(run: Run, percent: number): Promise<unknown> {
  return waitFor(`${percent} % of ${DATA_DISK}`, async () => {
    const { phase, doneBytes = 0 } = (await dataStep(run))?.progress ?? {};
    return phase === 'copy' && doneBytes >= (percent / 100) * DATA_BYTES - 3 * MIB;
  });
}

function expectAbout(percent: number, bytes: number): void {
  expect(Math.abs((100 * bytes) / DATA_BYTES - percent)).toBeLessThanOrEqual(15);
  expect(bytes).toBeGreaterThan(0);
  expect(bytes).toBeLessThan(DATA_BYTES);
}

/** Nothing runs any more. */
function stands(run: Run): Promise<MigrationStatus> {
  return waitFor('everything to stand', async () => {
    const { steps, status } = await bench.client.status(run.id);
    return status?.waitingFor === 'resume' && steps.length === 0 && status;
  });
}

/** The PUTs to a disk, as the lab's receiver took them. */
async function sentTo(vdi: string): Promise<ImportRecord[]> {
  return (await bench.pool.imports()).filter(({ vdiUuid }) => vdiUuid === vdi);
}

/** Bytes per second from one write to the first one that is so many bytes later. */
async function rateOver(puts: () => Promise<ImportRecord[]>, bytes: number): Promise<number> {
  const written = (beyond: number) =>
    waitFor('more bytes', async () => {
      const records = await puts();
      const value = bytesOf(records);
      return (
        value > beyond && {
          value,
          at: Math.max(...records.map(({ lastWriteAt = '' }) => Date.parse(lastWriteAt) || 0)),
        }
      );
    });
  const from = await written(bytesOf(await puts()));
  const to = await written(from.value + bytes - 1);
  return (1000 * (to.value - from.value)) / (to.at - from.at);
}

function expectNear(rate: number, asked: number): void {
  expect(rate / asked).toBeGreaterThan(0.9);
  expect(rate / asked).toBeLessThan(1.1);
}

const bytesOf = (records: ImportRecord[]): number => records.reduce((sum, { writtenBytes }) => sum + writtenBytes, 0);

/** The last PUT ended properly, at the latest within two seconds of the moment at which the transfer heard that it is to stop. */
async function expectStopped(run: Run, vdi: string, { logFile }: TestWorker): Promise<void> {
  const log = await readFile(logFile, 'utf8');
  const heard = log
    .split('\n')
    .filter((line) => line.includes('told to stop'))
    .map((line) => JSON.parse(line) as { time: number; disk: string; workflowId: string })
    .filter(({ disk, workflowId }) => disk === DATA_DISK && workflowId === run.id);
  const last = (await sentTo(vdi)).at(-1);
  expect(last?.outcome).toBe('success');
  const heardAt = heard.at(-1)?.time ?? 0;
  // None has begun since; or it was heard between two, and there was nothing to end.
  expect(Date.parse(last?.startedAt ?? '')).toBeLessThan(heardAt);
  expect(Date.parse(last?.finishedAt ?? '') - heardAt).toBeLessThan(2_000);
}

/** Every byte of the disk, once. */
function expectSentOnce(records: ImportRecord[]): void {
  const chunks = records.flatMap(({ chunks }) => chunks).sort((a, b) => a.offset - b.offset);
  let end = 0;
  for (const { offset, length } of chunks) {
    expect(offset).toBe(end);
    end = offset + length;
  }
  expect(end).toBe(DATA_BYTES);
}

async function writerOf(vdi: string): Promise<string | undefined> {
  const ref = await bench.api.call('VDI.get_by_uuid', vdi);
  return (await bench.api.call<Record<string, string>>('VDI.get_other_config', ref))['surefire:writer'];
}

/** VMs and VDIs on the pool that carry the run's tag, snapshots aside. */
async function ownedBy(run: Run): Promise<Record<string, number>> {
  const { tag } = await run.status();
  const count = async (cls: string) => {
    const all = await bench.api.call<Record<string, PoolRecord>>(`${cls}.get_all_records`);
    return Object.values(all).filter((one) => one.other_config['surefire:migration'] === tag && !one.is_a_snapshot)
      .length;
  };
  return { VM: await count('VM'), VDI: await count('VDI') };
}

interface PoolRecord {
  other_config: Record<string, string>;
  is_a_snapshot: boolean;
}

/** The rest of the way, and both sides equal to the byte. */
async function finishes(run: Run): Promise<void> {
  await run.goTo('acceptance');
  const report = await run.accept();
  expect(report.leftovers).toEqual([]);
  expect((await run.comparesEqual(report)).every(Boolean)).toBe(true);
}
