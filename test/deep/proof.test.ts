import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { MigrationStatus } from '../../src/shared/index.js';
import { Bench, MIB, plain, waitFor, type Run } from '../e2e/harness.js';
import { startTransferWorker } from '../e2e/workers.js';

/** The second disk of one VM: soon copied, and most of a minute to be read back at the limit that is set. */
const DATA_BYTES = 96 * MIB;
const FILLED_BYTES = 16 * MIB;
const SLOW_MIB = 2;
/** Its device key. */
const SECOND_DISK = '2001';
const EXTERNAL = 'Pool-wide network associated with eth0';

let bench: Bench;

beforeAll(async () => {
  const large = { ...plain('stopped'), dataDiskBytes: [DATA_BYTES] };
  bench = await Bench.start([plain('blind'), plain('ranged'), plain('spoiled'), plain('sampled'), large]);
  await bench.fillDataDisk('stopped', FILLED_BYTES);
});

afterAll(() => bench?.stop());

async function offerNbd(): Promise<void> {
  const [network] = await bench.api.call<string[]>('network.get_by_name_label', EXTERNAL);
  await bench.api.call('network.add_purpose', network, 'nbd');
}

/** Lets the pool write one byte wrongly so many times, in the middle of what the guest has just written. */
async function spoil(vm: string, times: number, vdi?: string): Promise<{ offset: number; length: number }> {
  const [written] = await bench.guestWrites(vm);
  const offset = (written?.offset ?? 0) + 20_000;
  await bench.pool.fault({ kind: 'corruptImport', offset, times, ...(vdi !== undefined && { vdi }) });
  return { offset: offset - (offset % 4096), length: 4096 };
}

/** How far the one second disk here was read back, as its snapshot says; 0 where none does. */
async function noted(): Promise<number> {
  type Vdi = { other_config: Record<string, string> };
  const vdis = Object.values(await bench.api.call<Record<string, Vdi>>('VDI.get_all_records'));
  const notes = vdis.flatMap(({ other_config: keys }) =>
    keys['surefire:disk'] === SECOND_DISK ? (keys['surefire:read-back'] ?? []) : [],
  );
  expect(notes.length).toBeLessThanOrEqual(1);
  const [text] = notes;
  if (text === undefined) return 0;
  return (JSON.parse(text) as { value: { checked: { position: number } } }).value.checked.position;
}

/** The first progress of the read-back of the second disk that an attempt after `attempt` tells of. */
function firstProgress(run: Run, attempt: number): Promise<number> {
  return waitFor('the read-back to go on', async () => {
    const { steps } = await bench.client.status(run.id);
    const { progress } = steps.find(({ progress: of }) => of?.phase === 'verify' && of.totalBytes === DATA_BYTES) ?? {};
    return progress !== undefined && progress.attempt > attempt && progress.doneBytes;
  });
}

const passesOf = ({ disks }: Pick<MigrationStatus, 'disks'>) => disks[0]?.passes ?? [];
const verdictsOf = (status: Pick<MigrationStatus, 'disks'>) =>
  passesOf(status).map(({ verdicts = [] }) => verdicts.map(({ scope, via }) => `${scope} by ${via}`));

describe('proof of a copy without NBD', () => {
  it('[D5] finds a wrong byte of the base by an export, sends its place again, and counts on acknowledgement in the outage', async () => {
    const place = await spoil('blind', 1);
    const run = await bench.migrate('blind');
    const atVerification = await run.goTo('verification');
    expect(passesOf(atVerification)[0]).toMatchObject({ mended: [place], verified: 'read-back' });
    expect(atVerification.record.some(({ text }) => text.includes('1 place with 4.0 KiB differed after base'))).toBe(
      true,
    );
    // The doubted snapshot was replaced.
    expect(atVerification.artifacts.targetSnapshots).toHaveLength(1);
    await bench.guestWrites('blind', 200_000);
    await run.goTo('acceptance');
    const report = await run.accept();
    expect(verdictsOf(report)).toEqual([['full by export'], ['changed by none', 'full by export']]);
    const [base] = passesOf(report);
    expect(base?.verdicts?.[0]).toMatchObject({ whyNotNbd: 'the pool offers none', detection: 1 });
    expect(base?.verdicts?.[0]?.chainDigest).toBe(base?.chainDigest);
    expect(await run.comparesEqual(report)).toEqual([true]);
    expect(report.leftovers).toEqual([]);
  });
});

describe('proof of a copy with NBD', () => {
  beforeAll(offerNbd);

  it.concurrent('[D5] checks what changed within the outage by ranges, and mends a place that differs', async () => {
    const run = await bench.migrate('ranged');
    const { disks } = await run.goTo('cutover-approval');
    const place = await spoil('ranged', 1, disks[0]?.vdiUuid);
    const atAcceptance = await run.goTo('acceptance');
    const final = passesOf(atAcceptance).at(-1);
    expect(final).toMatchObject({ kind: 'delta', mended: [place] });
    expect(final?.verdicts?.[0]).toMatchObject({ scope: 'changed', via: 'nbd', bytesChecked: final?.bytesPlanned });
    const report = await run.accept();
    expect(verdictsOf(report)).toEqual([['full by nbd'], ['changed by nbd', 'full by nbd']]);
    expect(await run.comparesEqual(report)).toEqual([true]);
    expect(report.leftovers).toEqual([]);
  });

  it.concurrent('[D5] stops the cutover when the same place differs again: source as found, base kept', async () => {
    const run = await bench.migrate('spoiled');
    const { disks } = await run.goTo('cutover-approval');
    await spoil('spoiled', 2, disks[0]?.vdiUuid);
    await run.goTo('power-off');
    await bench.vsphere.shutdown('spoiled');
    const back = await run.records('The source is poweredOn again, the base is kept');
    expect(back.record.at(-1)?.text).toContain('VerificationMismatch');
    expect(await bench.vsphere.powerState('spoiled')).toBe('poweredOn');
    const before = (await bench.pool.imports()).length;
    await run.goTo('acceptance');
    expect((await bench.pool.imports()).length).toBeGreaterThan(before);
    const report = await run.accept();
    expect(await run.comparesEqual(report)).toEqual([true]);
    expect(report.leftovers).toEqual([]);
  });

  it.concurrent('[S14] goes on where a read-back was, after a crash and after a pause', async () => {
    const worker = await startTransferWorker(bench, 'stopped');
    await worker.limit(SLOW_MIB);
    const run = await bench.migrate('stopped', { transferQueue: worker.queue });
    const crashedAt = await waitFor('a note', async () => (await noted()) || undefined);
    await worker.kill('SIGKILL');
    await startTransferWorker(bench, 'stopped');
    expect(await firstProgress(run, 1)).toBeGreaterThanOrEqual(crashedAt);
    await run.say('pause', { reason: 'the backup runs' });
    await run.reaches('resume');
    await waitFor('everything to stand', async () => (await bench.client.status(run.id)).steps.length === 0);
    const pausedAt = await noted();
    expect(pausedAt).toBeGreaterThanOrEqual(crashedAt);
    await run.say('resume', {});
    expect(await firstProgress(run, 0)).toBeGreaterThanOrEqual(pausedAt);
    await worker.limit();
    const status = await run.reaches('verification');
    expect(await noted()).toBe(0);
    expect(status.disks.flatMap(({ passes }) => passes[0]?.verdicts ?? [])).toMatchObject(
      [{ bytesTotal: 46 * MIB }, { bytesTotal: DATA_BYTES }].map(({ bytesTotal }) => ({
        ...{ scope: 'full', via: 'nbd', bytesTotal, bytesChecked: bytesTotal, detection: 1 },
      })),
    );
    await run.goTo('acceptance');
    const report = await run.accept();
    expect(await run.comparesEqual(report)).toEqual([true, true]);
    expect(report.leftovers).toEqual([]);
  });

  it.concurrent('[D5] reads a sample where that is asked for, and says what it is worth', async () => {
    const run = await bench.migrate('sampled', { policy: { verify: 'sampled', sampleShare: 0.2 } });
    await run.goTo('acceptance');
    await run.records('was read back: what was copied last, and a sample of the rest');
    await run.say('acceptMigration', {});
    const { report } = await run.ends();
    if (report === undefined) throw new Error('not migrated');
    expect(verdictsOf(report)).toEqual([['sampled by nbd'], ['changed by nbd', 'sampled by nbd']]);
    const [base] = passesOf(report);
    const { share = 0, detection = 0, bytesTotal = 0, bytesChecked = 0 } = base?.verdicts?.[0] ?? {};
    const planned = base?.bytesPlanned ?? 0;
    expect(share).toBeGreaterThanOrEqual(0.2);
    expect(share).toBeLessThan(0.3);
    expect(detection).toBeCloseTo((planned + share * (bytesTotal - planned)) / bytesTotal, 9);
    expect(bytesChecked).toBeGreaterThan(planned);
    expect(bytesChecked).toBeLessThan(bytesTotal);
    expect(await run.comparesEqual(report)).toEqual([true]);
  });
});
