import { open } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bench, failureOf, MIB, plain, waitFor } from '../e2e/harness.js';

let bench: Bench;

beforeAll(async () => {
  bench = await Bench.start([plain('redone'), plain('resetter'), plain('backer'), plain('flipped')]);
});

afterAll(() => bench?.stop());

const COMPLETE = 'complete import from V2V';

describe.concurrent('copies', () => {
  it('[S93] [S103] [S108] [S110] [S118] [D2] makes a rejected test copy anew from a new clean snapshot and a delta alone', async () => {
    const run = await bench.migrate('redone');
    await run.records('Snapshot "vm without tools" was taken');
    const [late] = await bench.guestWrites('redone');
    const first = await run.reaches('verification');
    const testVm = first.artifacts.testVmUuid ?? '';
    expect(await contentAt(first.artifacts.targetSnapshots[0]?.disks[0]?.vdiUuid, late)).not.toEqual(late?.bytes);

    // Isolated: ours alone, no physical interface, and the copy was started on nothing else.
    const network = await bench.api.call<{ PIFs: string[]; VIFs: string[] }>(
      'network.get_record',
      await bench.api.call('network.get_by_uuid', first.artifacts.testNetworkUuid),
    );
    expect(network.PIFs).toEqual([]);
    const vm = await bench.api.call<{ VIFs: string[] }>(
      'VM.get_record',
      await bench.api.call('VM.get_by_uuid', testVm),
    );
    expect(vm.VIFs).toEqual(network.VIFs);
    expect(vm.VIFs).toHaveLength(1);

    await run.say('rejectTestCopy', { then: 'redo', reason: 'the database was not consistent' });
    const second = await waitFor('another test copy', async () => {
      const status = await run.reaches('verification');
      return status.artifacts.testVmUuid === testVm ? undefined : status;
    });
    expect((await bench.pool.vms())[testVm]).toBeUndefined();
    expect(await bench.api.call('network.get_by_name_label', 'surefire test redone')).toHaveLength(1);
    const newest = second.artifacts.targetSnapshots.at(-1)?.disks[0]?.vdiUuid;
    expect(await contentAt(newest, late)).toEqual(late?.bytes);
    const [base, delta] = second.disks[0]?.passes ?? [];
    expect([base?.kind, delta?.kind, delta?.deltaMethod]).toEqual(['base', 'delta', 'cbt']);
    expect(delta?.snapshotMoRef).not.toBe(base?.snapshotMoRef);
    expect(delta?.bytesSent).toBeGreaterThanOrEqual(late?.bytes.length ?? 0);
    expect(delta?.bytesSent).toBeLessThan(2 ** 20);

    await run.say('addNote', { text: 'the time zone is wrong', fix: true });
    await run.goTo('acceptance');
    await run.records('was read back in full');
    expect((await failureOf(run.say('acceptMigration', {}))).message).toContain('1 fixes of redone are not ticked off');
    await run.say('addNote', { text: '', done: 1 });
    const report = await run.accept();
    expect(report.notes[0]).toMatchObject({ text: 'the time zone is wrong', done: { operator: 'olga' } });
    expect(await run.comparesEqual(report)).toEqual([true]);
    expect(report.leftovers).toEqual([]);
    // One transfer served two tests and the cutover.
    const sent = report.disks.flatMap(({ passes }) => passes.map(({ bytesSent }) => bytesSent));
    expect(sent).toHaveLength(3);
    expect((sent[1] ?? 0) + (sent[2] ?? 0)).toBeLessThan((sent[0] ?? 0) / 10);
  });

  it('[S115] copies in full to a new disk when change tracking was reset and a person accepts the longer outage', async () => {
    const run = await bench.migrate('resetter');
    const { disks } = await run.goTo('cutover-approval');
    await bench.guestWrites('resetter');
    await bench.vsphere.resetTracking('resetter');
    await run.say('approveCutover', {});
    await run.reaches('power-off');
    await bench.vsphere.shutdown('resetter');
    const { instruction, allowed } = await run.reaches('decision');
    expect(instruction).toContain('The source is off, but a delta is not safe for 1 disks');
    expect(allowed).toEqual(['decideAfterFailure', 'rollback', 'addNote', 'pause']);
    const senseless = await failureOf(run.say('decideAfterFailure', { decision: 'retry' }));
    expect(senseless.message).toContain('"retry" cannot be decided here');
    await run.say('decideAfterFailure', { decision: 'full' });
    await run.reaches('acceptance');
    const report = await run.accept();
    expect(report.disks[0]?.vdiUuid).not.toBe(disks[0]?.vdiUuid);
    expect(report.disks[0]?.passes.map(({ kind }) => kind)).toEqual(['base', 'base']);
    expect(await run.comparesEqual(report)).toEqual([true]);
    expect(report.leftovers).toEqual([]);
  });

  it('[S115] powers the source on again and copies anew while it runs when change tracking was reset and a person goes back', async () => {
    const run = await bench.migrate('backer');
    const { disks } = await run.goTo('cutover-approval');
    await bench.vsphere.resetTracking('backer');
    await run.say('approveCutover', {});
    await run.reaches('power-off');
    await bench.vsphere.shutdown('backer');
    await run.reaches('decision');
    await run.say('decideAfterFailure', { decision: 'back' });
    const again = await run.reaches('cutover-approval');
    expect(await bench.vsphere.powerState('backer')).toBe('poweredOn');
    expect(again.disks[0]?.vdiUuid).not.toBe(disks[0]?.vdiUuid);
    expect(again.record.some(({ text }) => text.includes('change tracking was reset, so it is copied in full'))).toBe(
      true,
    );
    await bench.guestWrites('backer');
    await run.goTo('acceptance');
    const report = await run.accept();
    expect(report.disks[0]?.passes.map(({ kind }) => kind)).toEqual(['base', 'base', 'delta']);
    expect(await run.comparesEqual(report)).toEqual([true]);
    expect(report.leftovers).toEqual([]);
  });
});

describe('read-back of the final snapshot', () => {
  it('[S118] [D5] shuts acceptance while it runs, and for good when one byte differs, whose offset it names', async () => {
    const run = await bench.migrate('flipped');
    await run.goTo('cutover-approval');
    await bench.guestWrites('flipped');
    await run.say('approveCutover', {});
    await run.reaches('power-off');
    await bench.vsphere.shutdown('flipped');
    const { artifacts } = await run.records('The final delta is on the target.');
    // The read-back asks once more what had changed; it has to wait for the answer.
    await bench.vsphere.addRule({ method: 'QueryChangedDiskAreas', seconds: 8 });
    const vdi = artifacts.targetSnapshots.find(({ name }) => name === COMPLETE)?.disks[0]?.vdiUuid;
    const offset = 30 * MIB + 12_345;
    await flipByte(vdi, offset);
    await run.reaches('acceptance');
    expect((await failureOf(run.say('acceptMigration', {}))).message).toContain('The read-back of flipped still runs');
    await run.records('The read-back failed');
    const refused = await failureOf(run.say('acceptMigration', {}));
    expect(refused.type).toBe('EvidenceMissing');
    expect(refused.message).toContain('The read-back of flipped failed');
    expect(refused.message).toContain(String(offset));
    await run.say('rollback', { reason: 'a byte differs' });
    expect((await run.ends()).outcome).toBe('rolled-back');
    expect(await bench.vsphere.powerState('flipped')).toBe('poweredOn');
  });
});

async function flipByte(vdiUuid: string | undefined, offset: number): Promise<void> {
  const [path = ''] = await bench.vdiFiles([vdiUuid ?? '']);
  const file = await open(path, 'r+');
  try {
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, offset);
    byte[0] = (byte[0] ?? 0) ^ 1;
    await file.write(byte, 0, 1, offset);
  } finally {
    await file.close();
  }
}

/** What a VDI holds where the guest wrote. */
async function contentAt(vdiUuid: string | undefined, place: { offset: number; bytes: Buffer } | undefined) {
  const [path = ''] = await bench.vdiFiles([vdiUuid ?? '']);
  const file = await open(path);
  try {
    const bytes = Buffer.alloc(place?.bytes.length ?? 0);
    await file.read(bytes, 0, bytes.length, place?.offset ?? 0);
    return bytes;
  } finally {
    await file.close();
  }
}
