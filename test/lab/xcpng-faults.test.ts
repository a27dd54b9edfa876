import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { XcpngAdmin } from '../../lab/xcpng/admin.js';
import { chunkHeader, END_MARKER, TestPool, until } from './xcpng-client.js';

const MIB = 1024 ** 2;

let pool: TestPool;
let admin: XcpngAdmin;
let vdi: string;

beforeAll(async () => {
  pool = await TestPool.start();
  admin = new XcpngAdmin(pool.server.address.adminUrl);
});
afterAll(async () => {
  await pool.stop();
});
beforeEach(async () => {
  vdi = await pool.createVdi(2 * MIB);
});

/** Imports one chunk of `length` ones at 0 and gives the body's text, the task and the time it took. */
async function importOnes(length: number): Promise<{ text: string; task: string; elapsedMs: number }> {
  const at = Date.now();
  const { socket, answer, task } = await pool.openImport(vdi, { chunked: 'true' });
  socket.write(Buffer.concat([chunkHeader(0, length), Buffer.alloc(length, 1), END_MARKER]));
  const { text } = await answer;
  return { text, task, elapsedMs: Date.now() - at };
}

describe('faults armed at the admin endpoint', () => {
  it('happen as often as they are told, to the VDI they are told', async () => {
    await admin.fault({ kind: 'attach', vdi: 'another', times: 1 });
    await admin.fault({ kind: 'attach', vdi: await pool.call('VDI.get_uuid', vdi), times: 2 });
    expect((await importOnes(512)).text).toContain('SR_BACKEND_FAILURE_46');
    expect((await importOnes(512)).text).toContain('SR_BACKEND_FAILURE_46');
    expect((await importOnes(512)).text).toBe('');
    expect(await admin.fault({ kind: 'clear' })).toEqual([]);
  });

  it('cut as a reset drops the piece under way', async () => {
    await admin.fault({ kind: 'cut', afterBytes: 12 + 512, mode: 'rst' });
    const { task } = await importOnes(1024);
    expect((await pool.taskEnd(task)).error_info[0]).toBe('VDI_IO_ERROR');
    expect((await readFile(await pool.fileOf(vdi))).every((byte) => byte === 0)).toBe(true);
  });

  it('stall and slow take their time and lose nothing', async () => {
    await admin.fault({ kind: 'stall', afterBytes: 12, seconds: 0.2 });
    await admin.fault({ kind: 'slow', writeMs: 200 });
    const { elapsedMs, task } = await importOnes(1024);
    expect(elapsedMs).toBeGreaterThanOrEqual(390);
    expect((await pool.taskEnd(task)).status).toBe('success');
  });

  it('detachLag keeps the VBD after the task is done, and VDI.destroy out', async () => {
    await admin.fault({ kind: 'detachLag', ms: 3_000 });
    const { task } = await importOnes(512);
    expect((await pool.taskEnd(task)).status).toBe('success');
    await expect(pool.call('VDI.destroy', vdi)).rejects.toMatchObject({ code: 'VDI_IN_USE' });
    await until(async () => ((await pool.call<string[]>('VDI.get_VBDs', vdi)).length === 0 ? true : undefined));
    await pool.call('VDI.destroy', vdi);
  });

  it('vanishTask takes the task away before it can be read', async () => {
    await admin.fault({ kind: 'vanishTask' });
    const { text, task } = await importOnes(512);
    expect(text).toBe('');
    await expect(pool.call('task.get_record', task)).rejects.toMatchObject({ code: 'HANDLE_INVALID' });
  });

  it('corruptExport turns one byte over', async () => {
    await importOnes(1024);
    await until(async () => ((await pool.call<string[]>('VDI.get_VBDs', vdi)).length === 0 ? true : undefined));
    await admin.fault({ kind: 'corruptExport', offset: 700 });
    const { text } = await pool.request('GET', `/export_raw_vdi?session_id=${pool.session}&vdi=${vdi}&format=raw`);
    const disk = await readFile(await pool.fileOf(vdi));
    const differing = [...Buffer.from(text, 'latin1').entries()].filter(([at, byte]) => byte !== disk[at]);
    expect(differing).toEqual([[700, 0xfe]]);
  });

  it('call makes one call fail with any code', async () => {
    await admin.fault({ kind: 'call', method: 'VM.get_all', code: 'TOO_MANY_PENDING_TASKS' });
    await expect(pool.call('VM.get_all')).rejects.toMatchObject({ code: 'TOO_MANY_PENDING_TASKS', params: [] });
    await pool.call('VM.get_all');
  });

  it('call makes slow or loses the answer of the calls about one object only', async () => {
    await pool.call('VDI.set_name_label', vdi, 'the one');
    const other = await pool.createVdi(2 * MIB);
    const about = ['the one'];
    await admin.fault({ kind: 'call', method: 'VDI.set_name_description', about, lost: true });
    await admin.fault({ kind: 'call', method: 'VDI.get_name_description', about, seconds: 0.3 });
    await pool.call('VDI.set_name_description', other, 'heard');
    await expect(pool.call('VDI.set_name_description', vdi, 'unheard')).rejects.toThrow();
    expect(await admin.faults()).toHaveLength(1);
    const at = Date.now();
    expect(await pool.call('VDI.get_name_description', vdi)).toBe('unheard');
    expect(Date.now() - at).toBeGreaterThanOrEqual(290);
    expect(await admin.faults()).toEqual([]);
  });

  it('expireSessions ends every session, also under a waiting event.from', async () => {
    const { token } = await pool.call<{ token: string }>('event.from', ['vm'], '', 0);
    const waiting = expect(pool.call('event.from', ['vm'], token, 5)).rejects.toMatchObject({
      code: 'SESSION_INVALID',
    });
    await until(async () => ((await admin.calls()).at(-1)?.method === 'event.from' ? true : undefined));
    await admin.fault({ kind: 'expireSessions' });
    await waiting;
    await pool.login();
  });
});

it('the admin endpoint lists every PUT with its chunks and every call without secrets', async () => {
  const { task } = await importOnes(1024);
  const record = (await admin.imports()).find(({ taskRef }) => taskRef === task);
  expect(record).toMatchObject({
    mode: 'chunked',
    bodyBytes: 12 + 1024 + 12,
    writtenBytes: 1024,
    chunks: [{ offset: 0, length: 1024 }],
    outcome: 'success',
  });
  const text = JSON.stringify(await admin.calls());
  expect(text).toContain('session.login_with_password');
  expect(text).not.toContain(pool.server.address.password);
  expect(text).not.toContain(pool.session);
});
