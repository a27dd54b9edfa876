import { readFile, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chunkHeader, END_MARKER, TestPool, until } from './xcpng-client.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const DEVICE_BYTES = 8 * MIB;
const IO_ERROR = ['VDI_IO_ERROR', 'Device I/O errors'];

let pool: TestPool;

beforeAll(async () => {
  pool = await TestPool.start();
});
afterAll(async () => {
  await pool.stop();
});

/** Sends a chunked import, part by part; `cut` closes after the last part instead of leaving the end to the server. */
async function importParts(vdi: string, parts: Buffer[], { cut = false, query = {}, headers = {} } = {}) {
  const { socket, answer, task } = await pool.openImport(vdi, { chunked: 'true', ...query }, headers);
  for (const part of parts) socket.write(part);
  if (cut) socket.end();
  return { ...(await answer), task: await pool.taskEnd(task) };
}

/** A VDI whose every byte is `fill`. */
async function filledVdi(fill: number): Promise<{ vdi: string; read: () => Promise<Buffer> }> {
  const vdi = await pool.createVdi(DEVICE_BYTES);
  const file = await pool.fileOf(vdi);
  await writeFile(file, Buffer.alloc(DEVICE_BYTES, fill));
  return { vdi, read: () => readFile(file) };
}

const bytes = (length: number, fill: number): Buffer => Buffer.alloc(length, fill);
const isAll = (buffer: Buffer, fill: number): boolean => buffer.equals(bytes(buffer.length, fill));

describe('chunked import', () => {
  it('answers 200 before it reads, and ends with an empty body and a successful task', async () => {
    const { vdi, read } = await filledVdi(0);
    const { socket, answer, task } = await pool.openImport(vdi, { chunked: 'true' });
    await until(() => (socket.bytesRead > 0 ? true : undefined));
    socket.write(Buffer.concat([chunkHeader(MIB, 512), bytes(512, 7), END_MARKER]));
    const { status, head, text } = await answer;
    expect({ status, text }).toEqual({ status: 200, text: '' });
    expect(head).toContain(`task-id: ${task}`);
    expect(head.toLowerCase()).not.toContain('content-length');
    expect(await pool.taskEnd(task)).toMatchObject({ status: 'success', progress: 1, result: `<value>${vdi}</value>` });
    expect(isAll((await read()).subarray(MIB, MIB + 512), 7)).toBe(true);
  });

  it('writes only what it is given: any order, the last write wins, the rest stays', async () => {
    const { vdi, read } = await filledVdi(9);
    const { task } = await importParts(vdi, [
      Buffer.concat([chunkHeader(4 * MIB, 4096), bytes(4096, 1)]),
      Buffer.concat([chunkHeader(512, 1024), bytes(1024, 2)]),
      Buffer.concat([chunkHeader(1024, 512), bytes(512, 0)]),
      END_MARKER,
    ]);
    expect(task.status).toBe('success');
    const disk = await read();
    const expected = bytes(DEVICE_BYTES, 9);
    expected.fill(2, 512, 1024);
    expected.fill(0, 1024, 1536);
    expected.fill(1, 4 * MIB, 4 * MIB + 4096);
    expect(disk.equals(expected)).toBe(true);
  });

  it('takes chunks above 2 MiB in pieces', async () => {
    const { vdi, read } = await filledVdi(0);
    const data = Buffer.concat([bytes(2 * MIB, 1), bytes(2 * MIB, 2), bytes(MIB, 3)]);
    const { task } = await importParts(vdi, [chunkHeader(MIB, data.length), data, END_MARKER]);
    expect(task.status).toBe('success');
    expect((await read()).subarray(MIB, 6 * MIB).equals(data)).toBe(true);
  });

  it('ignores what follows the end marker', async () => {
    const { vdi } = await filledVdi(0);
    const { task } = await importParts(vdi, [END_MARKER, bytes(100, 1)]);
    expect(task.status).toBe('success');
  });

  it.each([
    ['an offset that is no multiple of 512', chunkHeader(100, 512), bytes(512, 1)],
    ['a length that is no multiple of 512', chunkHeader(0, 700), bytes(700, 1)],
    ['a length of 2 GiB or more', chunkHeader(0, 2 ** 31), bytes(0, 1)],
    ['an offset of 2^63 or more', chunkHeader(2n ** 63n, 512), bytes(512, 1)],
    ['a chunk that starts at the end', chunkHeader(DEVICE_BYTES, 512), bytes(512, 1)],
    ['a chunk that starts beyond the end', chunkHeader(DEVICE_BYTES + MIB, 512), bytes(512, 1)],
    ['an empty chunk at an odd offset', chunkHeader(5, 0), bytes(0, 1)],
  ])('fails on %s and writes nothing', async (_name, header, data) => {
    const { vdi, read } = await filledVdi(9);
    const { task, text } = await importParts(vdi, [header, data]);
    expect(task).toMatchObject({ status: 'failure', error_info: IO_ERROR });
    expect(text).toContain('VDI_IO_ERROR');
    expect(isAll(await read(), 9)).toBe(true);
  });

  it('takes an empty chunk at an even offset as a sign of life', async () => {
    const { vdi } = await filledVdi(0);
    expect((await importParts(vdi, [chunkHeader(512, 0), END_MARKER])).task.status).toBe('success');
  });

  it('writes the full pieces before an odd tail', async () => {
    const { vdi, read } = await filledVdi(9);
    const { task } = await importParts(vdi, [chunkHeader(0, 2 * MIB + 100), bytes(2 * MIB + 100, 1)]);
    expect(task.error_info).toEqual(IO_ERROR);
    const disk = await read();
    expect(isAll(disk.subarray(0, 2 * MIB), 1)).toBe(true);
    expect(isAll(disk.subarray(2 * MIB), 9)).toBe(true);
  });

  it('writes the part of a chunk that lies inside the device, then fails', async () => {
    const { vdi, read } = await filledVdi(9);
    const { task } = await importParts(vdi, [chunkHeader(DEVICE_BYTES - 512, 1024), bytes(1024, 1)]);
    expect(task.error_info).toEqual(IO_ERROR);
    expect(isAll((await read()).subarray(DEVICE_BYTES - 512), 1)).toBe(true);
  });
});

describe('a chunked import that is cut', () => {
  it.each([
    ['before the first byte', [] as Buffer[]],
    ['between two chunks', [chunkHeader(0, 512), bytes(512, 9)]],
    ['right after a header', [chunkHeader(MIB, 512)]],
  ])('%s writes nothing more and fails', async (_name, parts) => {
    const { vdi, read } = await filledVdi(9);
    const { task, text } = await importParts(vdi, parts, { cut: true });
    expect(task).toMatchObject({ status: 'failure', error_info: IO_ERROR });
    expect(text).toMatch(/^HTTP\/1\.1 400 /);
    expect(isAll(await read(), 9)).toBe(true);
  });

  it('inside a piece writes the whole piece, its tail being bytes of earlier chunks', async () => {
    const { vdi, read } = await filledVdi(9);
    const { task } = await importParts(
      vdi,
      [chunkHeader(0, MIB), bytes(MIB, 1), chunkHeader(2 * MIB, 2 * MIB), bytes(512, 2)],
      { cut: true },
    );
    expect(task.error_info).toEqual(IO_ERROR);
    const disk = await read();
    expect(isAll(disk.subarray(2 * MIB, 2 * MIB + 512), 2)).toBe(true);
    expect(isAll(disk.subarray(2 * MIB + 512, 3 * MIB), 1)).toBe(true);
    expect(isAll(disk.subarray(3 * MIB, 4 * MIB), 0)).toBe(true);
    expect(isAll(disk.subarray(4 * MIB), 9)).toBe(true);
  });

  it('exactly at a piece boundary keeps the finished pieces', async () => {
    const { vdi, read } = await filledVdi(9);
    await importParts(vdi, [chunkHeader(0, 4 * MIB), bytes(2 * MIB, 1)], { cut: true });
    const disk = await read();
    expect(isAll(disk.subarray(0, 2 * MIB), 1)).toBe(true);
    expect(isAll(disk.subarray(2 * MIB), 9)).toBe(true);
  });

  it('inside the first header, after one zero byte, is reported as success', async () => {
    const { vdi } = await filledVdi(9);
    const { task, text } = await importParts(vdi, [chunkHeader(MIB, 512).subarray(0, 1)], { cut: true });
    expect({ status: task.status, text }).toEqual({ status: 'success', text: '' });
  });

  it('inside a header whose merged bytes are not zero fails', async () => {
    const { vdi, read } = await filledVdi(9);
    const parts = [chunkHeader(MIB, 512), bytes(512, 9), chunkHeader(2 * MIB, 512).subarray(0, 4)];
    expect((await importParts(vdi, parts, { cut: true })).task.error_info).toEqual(IO_ERROR);
    expect(isAll(await read(), 9)).toBe(true);
  });

  it('by the death of the sender, without a goodbye, leaves the stale tail too', async () => {
    const { vdi, read } = await filledVdi(9);
    const { socket, answer, task } = await pool.openImport(vdi, { chunked: 'true' });
    socket.write(Buffer.concat([chunkHeader(0, MIB), bytes(512, 1)]));
    await until(() => pool.server.pool.imports.records.find((record) => record.taskRef === task)?.chunks[0]);
    socket.destroy();
    await answer;
    expect((await pool.taskEnd(task)).error_info).toEqual(IO_ERROR);
    const disk = await read();
    expect(isAll(disk.subarray(0, 512), 1)).toBe(true);
    expect(isAll(disk.subarray(512, MIB), 0)).toBe(true);
  });
});

describe('plain raw import', () => {
  it('writes every byte it announces and leaves the rest', async () => {
    const { vdi, read } = await filledVdi(9);
    const { socket, answer, task } = await pool.openImport(vdi, {}, { 'content-length': String(3 * MIB) });
    socket.write(bytes(3 * MIB, 0));
    expect(await answer).toMatchObject({ status: 200, text: '' });
    expect((await pool.taskEnd(task)).status).toBe('success');
    const disk = await read();
    expect(isAll(disk.subarray(0, 3 * MIB), 0)).toBe(true);
    expect(isAll(disk.subarray(3 * MIB), 9)).toBe(true);
  });

  it('reports a stream cut inside its last piece as success, with a stale tail', async () => {
    const { vdi, read } = await filledVdi(9);
    const { socket, answer, task } = await pool.openImport(vdi, {}, { 'content-length': String(3 * MIB) });
    socket.write(Buffer.concat([bytes(2 * MIB, 1), bytes(1, 2)]));
    socket.end();
    await answer;
    expect((await pool.taskEnd(task)).status).toBe('success');
    const disk = await read();
    expect(disk[2 * MIB]).toBe(2);
    expect(isAll(disk.subarray(2 * MIB + 1, 3 * MIB), 1)).toBe(true);
  });

  it('refuses a length of zero', async () => {
    const { vdi } = await filledVdi(9);
    const { answer, task } = await pool.openImport(vdi, {}, { 'content-length': '0' });
    await answer;
    expect((await pool.taskEnd(task)).error_info).toEqual(IO_ERROR);
  });
});

describe('the import handler', () => {
  it('redirects to a host that sees the SR, leaves the task pending, and that host takes the data', async () => {
    const vdi = await pool.createVdi(MIB, { SR: await pool.named('SR', 'Slave only') });
    const { answer, task } = await pool.openImport(vdi, { chunked: 'true' });
    const { status, head } = await answer;
    expect(status).toBe(302);
    const location = /location: (.*)/.exec(head)?.[1] ?? '';
    expect(location).toMatch(new RegExp(`^${pool.server.address.slaveUrl}/import_raw_vdi\\?.*chunked=true`));
    expect(await pool.call('task.get_status', task)).toBe('pending');
    const { pathname, search, origin } = new URL(location);
    const second = await pool.open('PUT', pathname + search, {}, origin);
    second.socket.write(Buffer.concat([chunkHeader(0, 512), bytes(512, 5), END_MARKER]));
    expect(await second.answer).toMatchObject({ status: 200, text: '' });
    expect((await pool.taskEnd(task)).status).toBe('success');
    expect(isAll((await readFile(await pool.fileOf(vdi))).subarray(0, 512), 5)).toBe(true);
  });

  it('answers 500 to an unknown VDI and leaves the task pending', async () => {
    const { answer, task } = await pool.openImport('00000000-0000-0000-0000-000000000000', { chunked: 'true' });
    expect((await answer).status).toBe(500);
    expect(await pool.call('task.get_status', task)).toBe('pending');
  });

  it.each([
    ['an unknown format', { format: 'foo' }, {}, ['INTERNAL_ERROR', 'Unknown format foo']],
    ['chunks of vhd', { format: 'vhd', chunked: 'true' }, {}, ['INTERNAL_ERROR', 'Cannot handle chunked VHD']],
    [
      'a transfer encoding',
      { chunked: 'true' },
      { 'transfer-encoding': 'chunked' },
      ['INTERNAL_ERROR', 'Cannot handle encoding: chunked'],
    ],
  ])('answers 404 to %s and fails the task', async (_name, query, headers, error) => {
    const { vdi } = await filledVdi(0);
    const { answer, task } = await pool.openImport(vdi, query as Record<string, string>, headers);
    expect((await answer).status).toBe(404);
    expect((await pool.taskEnd(task)).error_info).toEqual(error);
  });

  it('answers 401 without a session and 431 to a head above 1024 bytes', async () => {
    expect((await pool.request('PUT', '/import_raw_vdi?session_id=OpaqueRef:none')).status).toBe(401);
    expect((await pool.request('PUT', `/import_raw_vdi?x=${'y'.repeat(1100)}`)).status).toBe(431);
  });

  it('keeps chunked=false for chunked, as presence is all that counts', async () => {
    const { vdi } = await filledVdi(0);
    expect((await importParts(vdi, [END_MARKER], { query: { chunked: 'false' } })).task.status).toBe('success');
  });

  it('hangs on a VBD of the control domain while it writes, which blocks VDI.destroy and goes later', async () => {
    const { vdi } = await filledVdi(0);
    const { socket, answer, task } = await pool.openImport(vdi, { chunked: 'true' });
    const [vbd = ''] = await until(async () => {
      const found = await pool.call<string[]>('VDI.get_VBDs', vdi);
      return found.length > 0 ? found : undefined;
    });
    expect(await pool.call('VBD.get_currently_attached', vbd)).toBe(true);
    expect(await pool.call('VBD.get_other_config', vbd)).toEqual({ task_id: task });
    const domain = await pool.call('VBD.get_VM', vbd);
    expect(await pool.call('VM.get_is_control_domain', domain)).toBe(true);
    await expect(pool.call('VDI.destroy', vdi)).rejects.toMatchObject({ code: 'VDI_IN_USE', params: [vdi, 'destroy'] });
    socket.write(END_MARKER);
    await answer;
    await until(async () => ((await pool.call<string[]>('VDI.get_VBDs', vdi)).length === 0 ? true : undefined));
    await pool.call('VDI.destroy', vdi);
  });

  it('loses its device to a forced unplug: nothing is written any more', async () => {
    const { vdi, read } = await filledVdi(9);
    const { socket, answer, task } = await pool.openImport(vdi, { chunked: 'true' });
    const [vbd = ''] = await until(async () => {
      const found = await pool.call<string[]>('VDI.get_VBDs', vdi);
      return found.length > 0 ? found : undefined;
    });
    await until(() => (pool.server.pool.importsUnderWay.has(vbd) ? true : undefined));
    await expect(pool.call('VBD.unplug', vbd)).rejects.toMatchObject({ code: 'DEVICE_DETACH_REJECTED' });
    await pool.call('VBD.unplug_force', vbd);
    await pool.call('VBD.destroy', vbd);
    socket.write(Buffer.concat([chunkHeader(0, 512), bytes(512, 1), END_MARKER]));
    await answer;
    expect((await pool.taskEnd(task)).error_info).toEqual(IO_ERROR);
    expect(isAll(await read(), 9)).toBe(true);
  });
});

describe('faults', () => {
  it('cuts the connection at a byte', async () => {
    const { vdi, read } = await filledVdi(9);
    pool.server.pool.faults.arm({ kind: 'cut', afterBytes: 12 + 512 });
    const { task } = await importParts(vdi, [chunkHeader(0, 1024), bytes(1024, 1)]);
    expect(task.error_info).toEqual(IO_ERROR);
    expect(isAll((await read()).subarray(0, 512), 1)).toBe(true);
    expect(isAll((await read()).subarray(512, 1024), 0)).toBe(true);
  });

  it('lets the SR be full at an offset', async () => {
    const { vdi, read } = await filledVdi(9);
    pool.server.pool.faults.arm({ kind: 'enospc', offset: 512 });
    const { task } = await importParts(vdi, [chunkHeader(0, 1024), bytes(1024, 1), END_MARKER]);
    expect(task.error_info).toEqual(IO_ERROR);
    expect(isAll((await read()).subarray(0, 512), 1)).toBe(true);
    expect(isAll((await read()).subarray(512), 9)).toBe(true);
  });

  it('fails to attach after the 200, with the error in the body', async () => {
    const { vdi } = await filledVdi(9);
    pool.server.pool.faults.arm({ kind: 'attach' });
    const { task, status, text } = await importParts(vdi, []);
    expect(status).toBe(200);
    expect(text).toContain('SR_BACKEND_FAILURE_46');
    expect(task.error_info[0]).toBe('SR_BACKEND_FAILURE_46');
  });
});
