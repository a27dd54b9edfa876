import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bench, MIB, plain, useChosenNbdkit, waitFor } from '../e2e/harness.js';
import { startTransferWorker } from '../e2e/workers.js';
import { bytesAt } from '../e2e/world.js';

let bench: Bench;

beforeAll(async () => {
  await useChosenNbdkit();
  bench = await Bench.start([
    // Its first disk is tracked, its second is not.
    { ...plain('linked'), dataDiskBytes: [8 * MIB + 512], untrackedDisks: [1] },
    { name: 'compared', firmware: 'bios', vsphere: { version: 'vmx-04' } },
    plain('broken', { version: 'vmx-04' }),
    plain('paused', { version: 'vmx-04' }),
  ]);
});

afterAll(() => bench?.stop());

const snapshotsOf = async (vm: string) => (await bench.vsphere.vm(vm)).snapshots.map(({ name }) => name);

describe.concurrent('deltas without change tracking', () => {
  it('[S5] [S63] finds them in the last snapshot alone over vddk, beside a disk that is tracked, and compares where that was replaced', async () => {
    const run = await bench.migrate('linked', { policy: { transport: 'vddk' } });
    await run.records('Snapshot "vm without tools" was taken');
    await bench.guestWrites('linked');
    const first = await run.reaches('verification');
    expect(first.disks.map(({ deltaBy }) => deltaBy)).toEqual(['cbt', 'single-link']);
    expect(first.findings.filter(({ code }) => code === 'V5')).toMatchObject([
      { severity: 'warning', object: 'linked: Hard disk 2' },
    ]);
    const testVm = first.artifacts.testVmUuid;
    await run.say('rejectTestCopy', { then: 'redo', reason: 'to see another round' });
    await run.records('rejectTestCopy was accepted');
    await bench.guestWrites('linked', 100_000);
    await run.records('Pass warm-1 is complete');
    expect((await run.reaches('verification')).artifacts.testVmUuid).not.toBe(testVm);

    const { instruction } = await run.goTo('cutover-approval');
    expect(instruction).not.toContain('whole');
    // It is the parent of what comes; the baseline has served.
    expect(await snapshotsOf('linked')).toEqual(['vm without tools']);
    await bench.guestWrites('linked', 100_000);
    await bench.guestWrites('linked', 200_000);
    await run.goTo('acceptance');
    expect(await snapshotsOf('linked')).toEqual(['vm without tools', 'vm powered off for cutover']);
    const report = await run.accept();
    expect(report.disks.map(({ passes }) => passes.map(({ deltaMethod }) => deltaMethod))).toEqual([
      ['cbt', 'cbt', 'cbt'],
      ['map', 'compare', 'single-link'],
    ]);
    const [base, compared, final] = report.disks[1]?.passes ?? [];
    expect(compared?.bytesCompared).toBe(report.disks[1]?.capacityBytes);
    expect(final?.bytesSent).toBeGreaterThanOrEqual(2 * 70_144);
    expect(final?.bytesSent).toBeLessThan(Math.min(512 * 1024, base?.bytesSent ?? 0));
    // The map was taken of the link alone, the bytes through the whole chain.
    expect(report.disks.flatMap(({ passes }) => passes).every(({ nbdkit }) => !nbdkit.includes('single-link'))).toBe(
      true,
    );
    expect(await run.comparesEqual(report)).toEqual([true, true]);
    expect(await snapshotsOf('linked')).toEqual([]);
    expect(report.leftovers).toEqual([]);
  });

  it('[S5] [S63] finds them by comparison with the target over https, with writes between all snapshots', async () => {
    const run = await bench.migrate('compared', { policy: { transport: 'https' } });
    const { findings } = await run.reaches('tools-removal');
    const v4 = findings.find(({ code }) => code === 'V4');
    expect(v4?.severity).toBe('warning');
    expect(v4?.remedy).toContain('Hard disk 1 by comparison with the target (https serves the base file only)');
    // Between the baseline and the clean snapshot.
    await bench.guestWrites('compared');
    await run.removeTools();
    await run.say('confirmToolsRemoved', {});
    await run.records('Snapshot "vm without tools" was taken');
    await bench.guestWrites('compared', 100_000);
    const { instruction, disks } = await run.goTo('cutover-approval');
    expect(disks[0]).toMatchObject({ deltaBy: 'compare' });
    expect(instruction).toMatch(/1 disk with [\d.]+ MiB will be read whole in the outage, and compared/);
    await bench.guestWrites('compared', 200_000);
    await run.goTo('acceptance');
    const report = await run.accept();
    const [base, final] = report.disks[0]?.passes ?? [];
    expect([base?.deltaMethod, final?.deltaMethod]).toEqual(['all', 'compare']);
    expect(final?.bytesCompared).toBe(disks[0]?.capacityBytes);
    expect(final?.bytesSent).toBeGreaterThanOrEqual(2 * 70_144);
    expect(final?.bytesSent).toBeLessThan(MIB);
    expect(await run.comparesEqual(report)).toEqual([true]);
    expect(report.leftovers).toEqual([]);
  });

  it('[S5] [S115] asks before it copies in full what a cutover that came to nothing had written to', async () => {
    const run = await bench.migrate('broken', { policy: { transport: 'https' } });
    const { disks } = await run.goTo('cutover-approval');
    const [source = ''] = await bench.sourceFiles('broken');
    const made = bench.lab.description.vms.find(({ name }) => name === 'broken');
    const offset = made?.disks[0]?.scratch.offset ?? 0;
    const before = await bytesAt(source, offset, 70_144);
    await bench.guestWrites('broken');
    // The final delta is on the target disk when its snapshot fails.
    await bench.pool.fault({ kind: 'call', method: 'VM.snapshot', about: ['broken'], code: 'SR_FULL' });
    await run.say('approveCutover', {});
    await run.reaches('power-off');
    await bench.vsphere.shutdown('broken');
    await run.records('the base is kept');
    // As it was before: a comparison with the last verified snapshot finds nothing here, and the target disk has the other bytes.
    const {
      disks: [disk],
    } = await bench.vsphere.vm('broken');
    await bench.vsphere.guestWrite('broken', disk?.deviceKey ?? 0, offset, before);
    const again = await run.reaches('cutover-approval');
    expect(again.instruction).toContain('A cutover that came to nothing has written to 1 disk with 46.0 MiB');
    await run.say('approveCutover', {});
    await run.reaches('power-off');
    await bench.vsphere.shutdown('broken');
    const { instruction } = await run.reaches('decision');
    expect(instruction).toContain('final-1 has written to its target and came to nothing');
    await run.say('decideAfterFailure', { decision: 'full' });
    await run.reaches('acceptance');
    const report = await run.accept();
    expect(report.disks[0]?.passes.map(({ kind, deltaMethod }) => `${kind} by ${deltaMethod}`)).toEqual([
      'base by all',
      'delta by compare',
      'base by all',
    ]);
    expect(report.disks[0]?.vdiUuid).not.toBe(disks[0]?.vdiUuid);
    expect(await run.comparesEqual(report)).toEqual([true]);
    expect(report.leftovers).toEqual([]);
  });
});

describe('a comparison by ranges', () => {
  it('[S14] is paused in the outage, goes on where it was, on another worker too, and its changes are read back there', async () => {
    const [network] = await bench.api.call<string[]>(
      'network.get_by_name_label',
      'Pool-wide network associated with eth0',
    );
    await bench.api.call('network.add_purpose', network, 'nbd');
    const worker = await startTransferWorker(bench, 'first');
    const run = await bench.migrate('paused', { policy: { transport: 'https' }, transferQueue: worker.queue });
    const { disks } = await run.goTo('power-off');
    await bench.guestWrites('paused');
    await bench.vsphere.addRule({ method: '/folder', count: 10_000, seconds: 0.3 });
    await bench.vsphere.shutdown('paused');
    const compared = (atLeast: number) =>
      waitFor('a comparison under way', async () => {
        const { steps } = await bench.client.status(run.id);
        const progress = steps[0]?.progress;
        return progress?.phase === 'compare' && progress.doneBytes > atLeast ? progress.doneBytes : undefined;
      });
    const before = await compared(8 * MIB);
    await run.say('pause', { reason: 'the switch is replaced' });
    await run.reaches('resume');
    await waitFor('the copy to stand', async () => (await bench.client.status(run.id)).steps.length === 0);
    await run.say('resume', {});
    expect(await compared(0)).toBeGreaterThanOrEqual(before);
    // What the server has heard is what another worker knows.
    const heard = await compared(20 * MIB);
    await worker.kill('SIGKILL');
    await bench.vsphere.clearRules();
    const { length } = await bench.vsphere.calls();
    await startTransferWorker(bench, 'second', worker.queue);
    await run.reaches('acceptance');
    const served = (await bench.vsphere.calls()).slice(length).flatMap(({ object }) => {
      const [, from, to] = /^\/folder\/paused\/.*-flat.*bytes=(\d+)-(\d+)$/.exec(object) ?? [];
      return from === undefined ? [] : [Number(to) + 1 - Number(from)];
    });
    const read = served.reduce((sum, bytes) => sum + bytes, 0);
    // The rest, what is read ahead, and what differs.
    expect(read).toBeGreaterThan(0);
    expect(read).toBeLessThan((disks[0]?.capacityBytes ?? 0) - heard + 10 * MIB);
    const report = await run.accept();
    const final = report.disks[0]?.passes.at(-1);
    expect(final).toMatchObject({ deltaMethod: 'compare', bytesCompared: report.disks[0]?.capacityBytes });
    expect(final?.verdicts?.map(({ scope, via }) => `${scope} by ${via}`)).toEqual(['changed by nbd', 'full by nbd']);
    expect(await run.comparesEqual(report)).toEqual([true]);
    expect(report.leftovers).toEqual([]);
  });
});
