import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HEADROOM_BYTES } from '../../src/shared/blocks.js';
import { openSegmentPut } from '../../src/xapi/upload/index.js';
import type { Xapi } from '../../src/xapi/index.js';
import { errorOf, MIB, startTestPool, uuidOfSr, type TestPool } from './lab.js';
import { diskSpec, makeTarget, vmSpec } from './specs.js';

let pool: TestPool;
let xapi: Xapi;
beforeAll(async () => {
  pool = await startTestPool();
  xapi = pool.connect();
});
afterAll(() => pool.end());

/** Opens a PUT to a disk as a transfer does. */
async function openPut(vdiUuid: string) {
  const taskRef = await xapi.createTask('test', 'm-put');
  const access = await xapi.vdiAccess(vdiUuid);
  const writer = await openSegmentPut({ ...access, taskRef, taskOutcome: () => xapi.taskOutcome(taskRef) });
  return { writer, taskRef };
}

const payload = (length: number, fill: number) => Buffer.alloc(HEADROOM_BYTES + length, fill).subarray(HEADROOM_BYTES);
const keysOf = async (vdiUuid: string) => (await pool.record('VDI', vdiUuid)).other_config;

describe('checkpoints', () => {
  it('gives back what was saved last', async () => {
    const { disks } = await makeTarget(pool, xapi, 'm-check');
    const { vdiUuid } = disks[0]!;
    expect(await xapi.loadCheckpoint(vdiUuid)).toBeUndefined();
    await xapi.acquireWriter(vdiUuid, 'w');
    for (let done = 0; done < 5; done++) {
      await xapi.saveCheckpoint(vdiUuid, 'w', { pass: 'base', done });
      expect(await xapi.loadCheckpoint(vdiUuid)).toEqual({ pass: 'base', done });
    }
    expect(Object.keys(await keysOf(vdiUuid)).filter((key) => key.includes('checkpoint'))).toHaveLength(1);
  });

  it('always has one: a crash between the two calls leaves the newer (R15)', async () => {
    const { disks } = await makeTarget(pool, xapi, 'm-crash');
    const { vdiUuid } = disks[0]!;
    await xapi.acquireWriter(vdiUuid, 'w');
    await xapi.saveCheckpoint(vdiUuid, 'w', { done: 1 });
    // Either half of the replacement may be the one that never happens.
    await pool.admin.fault({ kind: 'call', method: 'VDI.add_to_other_config', code: 'INTERNAL_ERROR' });
    await errorOf(xapi.saveCheckpoint(vdiUuid, 'w', { done: 2 }));
    expect(await xapi.loadCheckpoint(vdiUuid)).toEqual({ done: 1 });
    await xapi.saveCheckpoint(vdiUuid, 'w', { done: 3 });
    const ref = await pool.raw.call('VDI.get_by_uuid', vdiUuid);
    const [stale] = Object.keys(await keysOf(vdiUuid)).filter((key) => key.includes('checkpoint'));
    const other = stale!.endsWith('a') ? stale!.replace(/a$/, 'b') : stale!.replace(/b$/, 'a');
    await pool.raw.call('VDI.add_to_other_config', ref, other, JSON.stringify({ sequence: 1, value: { done: 0 } }));
    expect(await xapi.loadCheckpoint(vdiUuid)).toEqual({ done: 3 });
  });

  it('keeps how far a snapshot was read back, for that snapshot alone, until it is done', async () => {
    const { vmUuid, disks } = await makeTarget(pool, xapi, 'm-read');
    const taken = await xapi.snapshotTarget({ vmUuid, name: 'first', migrationId: 'm-read', pass: 'base' });
    const { vdiUuid } = taken.disks[0]!;
    expect(await xapi.loadChecked(vdiUuid)).toBeUndefined();
    for (const position of [1, 2]) {
      await xapi.saveChecked(vdiUuid, { position });
      expect(await xapi.loadChecked(vdiUuid)).toEqual({ position });
    }
    expect(await xapi.loadChecked(disks[0]!.vdiUuid)).toBeUndefined();
    const ref = await pool.raw.call<string>('VDI.get_by_uuid', vdiUuid);
    const clone = await pool.raw.call<string>('VDI.get_uuid', await pool.raw.call('VDI.clone', ref));
    expect(Object.keys(await keysOf(clone))).toContain('surefire:read-back');
    expect(await xapi.loadChecked(clone)).toBeUndefined();
    for (const rubbish of ['{"vdiUuid', 'null']) {
      await pool.raw.call('VDI.remove_from_other_config', ref, 'surefire:read-back');
      await pool.raw.call('VDI.add_to_other_config', ref, 'surefire:read-back', rubbish);
      expect(await xapi.loadChecked(vdiUuid)).toBeUndefined();
    }
    await xapi.saveChecked(vdiUuid, undefined);
    expect(Object.keys(await keysOf(vdiUuid))).not.toContain('surefire:read-back');
  });

  it('says nothing on a copy of the disk (R16)', async () => {
    const { vmUuid, disks } = await makeTarget(pool, xapi, 'm-void');
    await xapi.acquireWriter(disks[0]!.vdiUuid, 'w');
    await xapi.saveCheckpoint(disks[0]!.vdiUuid, 'w', { done: 7 });
    const taken = await xapi.snapshotTarget({ vmUuid, name: 'snap', migrationId: 'm-void', pass: 'base' });
    expect(Object.keys(await keysOf(taken.disks[0]!.vdiUuid)).some((key) => key.includes('checkpoint'))).toBe(true);
    expect(await xapi.loadCheckpoint(taken.disks[0]!.vdiUuid)).toBeUndefined();
    expect(await xapi.loadCheckpoint(disks[0]!.vdiUuid)).toEqual({ done: 7 });
  });
});

describe('one writer', () => {
  it('shuts the older attempt out: it begins no PUT and ends no pass', async () => {
    const { disks } = await makeTarget(pool, xapi, 'm-lock');
    const { vdiUuid } = disks[0]!;
    await xapi.acquireWriter(vdiUuid, 'attempt-1');
    await xapi.requireWriter(vdiUuid, 'attempt-1');
    await xapi.acquireWriter(vdiUuid, 'attempt-2');
    expect(await errorOf(xapi.requireWriter(vdiUuid, 'attempt-1'))).toMatchObject({ type: 'WriterConflict' });
    expect(await errorOf(xapi.releaseWriter(vdiUuid, 'attempt-1'))).toMatchObject({ type: 'WriterConflict' });
    await xapi.releaseWriter(vdiUuid, 'attempt-2');
    expect(await keysOf(vdiUuid)).not.toHaveProperty('surefire:writer');
  });

  it('gives the lock to exactly one of several at once', async () => {
    const { disks } = await makeTarget(pool, xapi, 'm-race');
    const { vdiUuid } = disks[0]!;
    const ids = ['a', 'b', 'c', 'd'];
    await Promise.all(ids.map((id) => xapi.acquireWriter(vdiUuid, id)));
    const held = await Promise.allSettled(ids.map((id) => xapi.requireWriter(vdiUuid, id)));
    expect(held.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });

  it('asks who the writer is when the disk is attached, so that no sleep before the first byte lets two write', async () => {
    const { disks } = await makeTarget(pool, xapi, 'm-gap');
    const { vdiUuid } = disks[0]!;
    await xapi.acquireWriter(vdiUuid, 'sleeper');
    await xapi.requireWriter(vdiUuid, 'sleeper');
    // The successor takes over while nothing is attached, so that it has nothing to end.
    await xapi.acquireWriter(vdiUuid, 'successor');
    const { writer, taskRef } = await openPut(vdiUuid);
    const error = await errorOf(xapi.confirmWriter(vdiUuid, { writerId: 'sleeper', taskRef }));
    expect(error).toMatchObject({ type: 'WriterConflict' });
    writer.abort();
    await xapi.awaitNoAttachment(vdiUuid, 'successor');

    const next = await openPut(vdiUuid);
    await xapi.confirmWriter(vdiUuid, { writerId: 'successor', taskRef: next.taskRef });
    await next.writer.write(0, payload(64 * 1024, 2));
    await next.writer.finish();
  });

  it('lets a PUT that cannot attach its disk say why', async () => {
    const { disks } = await makeTarget(pool, xapi, 'm-attach');
    const { vdiUuid } = disks[0]!;
    await xapi.acquireWriter(vdiUuid, 'w');
    await pool.admin.fault({ kind: 'attach', vdi: vdiUuid });
    const { writer, taskRef } = await openPut(vdiUuid);
    await xapi.confirmWriter(vdiUuid, { writerId: 'w', taskRef });
    const error = await errorOf(writer.write(0, payload(64 * 1024, 1)).then(() => writer.finish()));
    expect(error).toMatchObject({ type: 'ImportFailed' });
    expect(error.message).toContain('SR_BACKEND_FAILURE_46');
  });

  it('waits for an attachment that is about to go, without force', async () => {
    const { disks } = await makeTarget(pool, xapi, 'm-lag');
    const { vdiUuid } = disks[0]!;
    await pool.admin.fault({ kind: 'detachLag', ms: 1_500, vdi: vdiUuid });
    const { writer } = await openPut(vdiUuid);
    await writer.write(0, payload(64 * 1024, 1));
    await writer.finish();
    const since = await pool.mark();
    await xapi.acquireWriter(vdiUuid, 'next');
    expect((await pool.calledSince(since)).filter((method) => method.startsWith('VBD.unplug'))).toEqual([]);
    expect((await pool.record('VDI', vdiUuid))['VBDs']).toHaveLength(1);
  });

  // Both wait for the grace time.
  it.concurrent(
    'lets nobody who was replaced speak for the disk: no checkpoint, no detachment, no way back to the mark',
    async () => {
      const { disks } = await makeTarget(pool, xapi, 'm-late');
      const { vdiUuid } = disks[0]!;
      const [early, late] = ['run/base:disk 1/7@1000', 'run/base:disk 1/1@2000'] as const;
      await xapi.acquireWriter(vdiUuid, early);
      await xapi.saveCheckpoint(vdiUuid, early, { done: 1 });
      await xapi.acquireWriter(vdiUuid, late);
      await xapi.saveCheckpoint(vdiUuid, late, { done: 2 });
      expect(await errorOf(xapi.saveCheckpoint(vdiUuid, early, { done: 1 }))).toMatchObject({ type: 'WriterConflict' });
      expect(await xapi.loadCheckpoint(vdiUuid)).toEqual({ done: 2 });
      expect(await errorOf(xapi.acquireWriter(vdiUuid, early))).toMatchObject({ type: 'WriterConflict' });
      await xapi.requireWriter(vdiUuid, late);

      // It slept between its own two looks, and wakes when the grace time is over: the attachment is its successor's.
      const { writer } = await openPut(vdiUuid);
      const waking = errorOf(xapi.awaitNoAttachment(vdiUuid, early));
      expect(await waking).toMatchObject({ type: 'WriterConflict' });
      await writer.write(0, payload(64 * 1024, 2));
      await writer.finish();
      await xapi.releaseWriter(vdiUuid, late);
    },
  );

  it.concurrent(
    'takes the disk from a writer that sleeps, after 15 s and by force; what it sends later lands nowhere (R17)',
    async () => {
      const { disks } = await makeTarget(pool, xapi, 'm-zombie');
      const { vdiUuid } = disks[0]!;
      const { writer: sleeper } = await openPut(vdiUuid);
      await sleeper.write(0, payload(64 * 1024, 1));
      const before = Date.now();
      await xapi.acquireWriter(vdiUuid, 'successor');
      expect(Date.now() - before).toBeGreaterThanOrEqual(14_000);
      expect((await pool.record('VDI', vdiUuid))['VBDs'], 'the guest’s own').toHaveLength(1);
      const { writer } = await openPut(vdiUuid);
      await writer.write(0, payload(64 * 1024, 2));
      await writer.finish();
      const error = await errorOf(sleeper.write(0, payload(64 * 1024, 3)).then(() => sleeper.finish()));
      expect(error.type).toMatch(/^Import(Failed|Doubtful)$/);
      await xapi.releaseWriter(vdiUuid, 'successor');
      const { path } = (await pool.admin.vdis())[vdiUuid]!;
      expect((await readFile(path)).subarray(0, 64 * 1024).every((byte) => byte === 2)).toBe(true);
    },
  );
});

describe('tasks and access', () => {
  it('calls a task that has vanished unknown, never a success', async () => {
    const taskRef = await xapi.createTask('gone', 'm-task');
    await pool.admin.fault({ kind: 'destroyTask', task: taskRef });
    expect(await xapi.taskOutcome(taskRef)).toMatchObject({ status: 'unknown' });
    await xapi.destroyTask(taskRef);
  });

  it('tells the reason of a failure', async () => {
    const { disks } = await makeTarget(pool, xapi, 'm-enospc');
    const { vdiUuid } = disks[0]!;
    await pool.admin.fault({ kind: 'enospc', offset: 0, vdi: vdiUuid });
    const { writer, taskRef } = await openPut(vdiUuid);
    const error = await errorOf(writer.write(0, payload(64 * 1024, 1)).then(() => writer.finish()));
    expect(error.type).toMatch(/^Import/);
    expect(await xapi.taskOutcome(taskRef)).toEqual({
      status: 'failure',
      errorInfo: ['VDI_IO_ERROR', 'Device I/O errors'],
    });
  });

  it('sends data to the master where it sees the SR', async () => {
    const { disks } = await makeTarget(pool, xapi, 'm-where');
    const access = await xapi.vdiAccess(disks[0]!.vdiUuid);
    expect(access.host.url).toBe(pool.url);
    expect(access.virtualSizeBytes).toBe(4 * MIB);
  });

  it('says TargetBusy while no enabled host has the SR attached', async () => {
    const { vmUuid } = await xapi.createTargetVm(await vmSpec(pool, { migrationId: 'm-unplugged' }));
    const srUuid = await uuidOfSr(pool, 'Local thick');
    const spec = await diskSpec(pool, vmUuid, { migrationId: 'm-unplugged', srUuid });
    const { vdiUuid } = await xapi.createTargetDisk(spec);
    const [pbd] = (await pool.record('SR', srUuid))['PBDs'] as string[];
    await pool.raw.call('PBD.unplug', pbd);
    const error = await errorOf(xapi.vdiAccess(vdiUuid));
    expect(error).toMatchObject({ type: 'TargetBusy' });
    expect(error.message).toContain('SR "Local thick"');
    await pool.raw.call('PBD.plug', pbd);
    expect((await xapi.vdiAccess(vdiUuid)).host.url).toBe(pool.url);
  });
});

describe('metrics', () => {
  it('[S12] records bytes, seconds, rate and kind in other_config and in words; no rate without time', async () => {
    const { disks } = await makeTarget(pool, xapi, 'm-speed');
    const { vdiUuid } = disks[0]!;
    await xapi.setVdiMetrics({ vdiUuid, pass: 'base', kind: 'base', bytes: 10 * MIB, seconds: 2 });
    await xapi.setVdiMetrics({ vdiUuid, pass: 'delta-1', kind: 'delta', bytes: 0, seconds: 0 });
    await xapi.setVdiMetrics({ vdiUuid, pass: 'base', kind: 'base', bytes: 20 * MIB, seconds: 2 });
    const vdi = await pool.record('VDI', vdiUuid);
    expect(JSON.parse(vdi.other_config['surefire:metrics-base']!)).toEqual({
      kind: 'base',
      bytes: 20 * MIB,
      seconds: 2,
      bytesPerSecond: 10 * MIB,
    });
    expect(JSON.parse(vdi.other_config['surefire:metrics-delta-1']!)).toEqual({ kind: 'delta', bytes: 0, seconds: 0 });
    const words = String(vdi['name_description']);
    expect(words).toContain('base (base): 20.0 MiB in 2 s, 10.0 MiB/s');
    expect(words).toContain('delta-1 (delta): 0 B in 0 s');
    expect(words).not.toMatch(/Infinity|NaN|10\.0 MiB in/);
  });
});
