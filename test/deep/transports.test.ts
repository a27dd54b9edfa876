import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LabVmSpec } from '../../lab/lab.js';
import { readVddkCalls, setVddkFaults } from '../../lab/vddk/libdir.js';
import { runCli } from '../cli/harness.js';
import { Bench, failureOf, MIB, plain, useChosenNbdkit, waitFor, type Run } from '../e2e/harness.js';
import { cliOf } from '../e2e/watching.js';
import { startTransferWorker } from '../e2e/workers.js';
import { configFileOf } from '../e2e/world.js';

let bench: Bench;

const DATA_DISK = 'Hard disk 2';
/** No hole in them. */
const CROSSING_BYTES = 24 * MIB;
const FAILING_BYTES = 48 * MIB;
/** Of the larger disk alone, a little behind its middle. */
const BAD_LBA = 50_000;
const SEGMENT_BYTES = 8 * MIB;

const vm = (name: string, bytes: number, tools: 'running' | 'none'): LabVmSpec => ({
  ...plain(name, { tools }),
  ...{ boots: false, dataDiskBytes: [bytes] },
});

beforeAll(async () => {
  await useChosenNbdkit();
  bench = await Bench.start([vm('crossing', CROSSING_BYTES, 'running'), vm('failing', FAILING_BYTES, 'none')]);
  await bench.fillDataDisk('crossing', CROSSING_BYTES);
  await bench.fillDataDisk('failing', FAILING_BYTES);
});

afterAll(() => bench?.stop());

describe.concurrent('another transport in mid-run', () => {
  it('[D12] [S63] goes on in mid-disk, hot, from VDDK to https with the same bytes, and for the last delta back', async () => {
    const worker = await startTransferWorker(bench, 'crossing', undefined, {
      vddkCompression: 'none',
      vddkTransports: ['nbd', 'nbdssl'],
    });
    await worker.limit(1);
    const run = await bench.migrate('crossing', { transferQueue: worker.queue });
    const { findings } = await run.reaches('tools-removal');
    expect(findings.find(({ code }) => code === 'N8')).toMatchObject({ severity: 'warning', object: worker.queue });
    // Over https these would come as they were at "vm starting point", were it still there.
    await writes('crossing', [1 * MIB, CROSSING_BYTES - 2 * MIB]);
    await run.removeTools();
    await run.say('confirmToolsRemoved', {});
    const vdi = (await run.records('The target VM was created')).disks[1]?.vdiUuid ?? '';
    await copies(run, 10 * MIB);
    await writes('crossing', [2 * MIB, CROSSING_BYTES - 3 * MIB]);
    expect((await run.status()).allowed).toContain('switchTransport');

    const same = await failureOf(run.say('switchTransport', { to: 'vddk' }));
    expect(same.message).toContain('they are read over vddk');
    const early = await failureOf(run.say('switchTransport', { to: 'https' }));
    expect(early.type).toBe('EvidenceMissing');
    expect(early.message).toContain('cannot be read over https while "vm starting point" stands');
    expect((await run.status()).artifacts.baselineSnapshot).toBeDefined();
    const switched = await cli(
      ...['transport', 'crossing', 'https', '--reason', 'port 902 was closed', '--end-baseline'],
    );
    expect(switched).toMatchObject({ exitCode: 0 });
    const { transport, artifacts } = await run.status();
    expect([transport, artifacts.baselineSnapshot]).toEqual(['https', undefined]);
    const sentBefore = bytesOf(await sentTo(vdi));
    expect(sentBefore).toBeGreaterThan(0);
    expect(sentBefore).toBeLessThan(CROSSING_BYTES);
    const vddkOpens = await opensOf('crossing');
    await worker.limit();

    const { disks, record } = await run.goTo('cutover-approval');
    expect(await opensOf('crossing')).toBe(vddkOpens);
    expect(disks[1]?.vdiUuid).toBe(vdi);
    await expectSentOnce(vdi, CROSSING_BYTES);
    expect(record.find(({ text }) => text.startsWith('Disks are read over https'))).toMatchObject({
      ...{ by: 'tester', reason: 'port 902 was closed' },
    });
    await run.say('switchTransport', { to: 'vddk', reason: 'it is open again' });
    await run.goTo('acceptance');
    const report = await run.accept();
    expect(report.disks[1]?.passes.map(({ kind, transport }) => `${kind} ${transport}`)).toEqual([
      'base https',
      'delta vddk',
    ]);
    // [S26] is in the happy path; here it is off, and the report says so.
    expect(report.disks[1]?.passes[1]?.nbdkit).toContain(' compression=none ');
    expect(report.disks[1]?.passes[1]?.vddkWays).toEqual(['nbd']);
    expect(await run.comparesEqual(report)).toEqual([true, true]);
    expect(report.leftovers).toEqual([]);
  });

  it('[D12] is proposed where VDDK fails in mid-disk, and refused while it would read other bytes', async () => {
    await setVddkFaults(bench.lab.description.vddkLibdir, { fail_lba: BAD_LBA });
    const worker = await startTransferWorker(bench, 'failing');
    const run = await bench.migrate('failing', { transferQueue: worker.queue });
    const { instruction, disks, allowed } = await run.reaches('decision');
    expect(instruction).toContain(`1 sector cannot be read: LBA ${BAD_LBA}-${BAD_LBA}`);
    expect(instruction).toContain('Or read over the other transport: `surefire transport failing https`.');
    expect(allowed).toContain('switchTransport');
    const vdi = disks[1]?.vdiUuid ?? '';
    const sentBefore = bytesOf(await sentTo(vdi));
    expect(sentBefore).toBeGreaterThan(0);

    const vsphere = bench.deps.vsphere('lab');
    const { moRef: vmMoRef } = await bench.vsphere.vm('failing');
    const backup = await vsphere.ensureSnapshot({ vmMoRef, name: 'nightly', ownerId: 'backup', description: '' });
    const foreign = await failureOf(run.say('switchTransport', { to: 'https', endBaseline: true }));
    expect(foreign.message).toContain('cannot be read over https: "nightly" is not ours.');
    await vsphere.removeSnapshot(backup);
    await vsphere.waitForConsolidation({ vmMoRef });

    await run.say('switchTransport', {
      to: 'https',
      endBaseline: true,
      reason: 'the datastore cannot be read otherwise',
    });
    await run.goTo('acceptance');
    const sent = bytesOf((await sentTo(vdi)).filter(({ outcome }) => outcome === 'success'));
    expect(sent).toBeGreaterThanOrEqual(FAILING_BYTES);
    expect(bytesOf(await sentTo(vdi))).toBeLessThanOrEqual(FAILING_BYTES + SEGMENT_BYTES);
    const report = await run.accept();
    expect(report.disks[1]?.passes.map(({ transport }) => transport)).toEqual(['https', 'https']);
    expect(await run.comparesEqual(report)).toEqual([true, true]);
    expect(report.leftovers).toEqual([]);
  });
});

const cli = (...args: string[]) => runCli([...args, '--config', configFileOf(bench)], cliOf(bench));

async function writes(name: string, offsets: number[]): Promise<void> {
  const { disks } = await bench.vsphere.vm(name);
  for (const offset of offsets) {
    const data = Buffer.alloc(100 * 1024, `${name} ${offset} ${Math.random()}`);
    await bench.vsphere.guestWrite(name, disks[1]?.deviceKey ?? 0, offset, data);
  }
}

function copies(run: Run, bytes: number): Promise<unknown> {
  return waitFor(`${bytes} bytes of ${DATA_DISK}`, async () => {
    const { steps } = await bench.client.status(run.id);
    const { phase, doneBytes = 0 } = steps.find(({ activityId }) => activityId === `base:${DATA_DISK}`)?.progress ?? {};
    return phase === 'copy' && doneBytes >= bytes;
  });
}

const opensOf = async (name: string): Promise<number> =>
  (await readVddkCalls(bench.lab.description.vddkLibdir)).filter(
    ({ call, path }) => call === 'Open' && String(path).includes(name),
  ).length;

const sentTo = async (vdi: string) => (await bench.pool.imports()).filter(({ vdiUuid }) => vdiUuid === vdi);

const bytesOf = (records: { writtenBytes: number }[]): number =>
  records.reduce((sum, { writtenBytes }) => sum + writtenBytes, 0);

async function expectSentOnce(vdi: string, sizeBytes: number): Promise<void> {
  const chunks = (await sentTo(vdi)).flatMap(({ chunks }) => chunks).sort((a, b) => a.offset - b.offset);
  let end = 0;
  for (const { offset, length } of chunks) {
    expect(offset).toBe(end);
    end = offset + length;
  }
  expect(end).toBe(sizeBytes);
}
