import { open } from 'node:fs/promises';
import { attachToControlDomain, detachLater, resolveVdi, uuidOf } from './datapath.js';
import { XapiError } from './errors.js';
import type { Connection, HttpRequest } from './http.js';
import type { Pool } from './pool.js';
import { numberOf, textOf } from './values.js';

const READ_BYTES = 2 * 1024 * 1024;

/** `GET /export_raw_vdi` in raw: the whole disk, no length announced, end by closing. */
export async function exportRawVdi(
  pool: Pool,
  hostRef: string,
  request: HttpRequest,
  connection: Connection,
): Promise<void> {
  const vdiRef = resolveVdi(pool, request.param('vdi') ?? '');
  const vdi = pool.db.get('VDI', vdiRef);
  const taskRef = request.param('task_id') ?? pool.tasks.create('Exporting raw VDI', '', hostRef);
  const hosts = pool.hostsOfSr(textOf(vdi, 'SR'));
  if (!hosts.includes(hostRef)) {
    const authority = pool.authorities.get(hosts[0] ?? '') ?? '';
    connection.respondAndClose(302, { location: `https://${authority}/export_raw_vdi?${request.queryText}` });
    return;
  }
  const format = (request.param('format') ?? 'raw').toLowerCase();
  if (format !== 'raw' || request.param('base') !== undefined) {
    pool.tasks.fail(taskRef, new XapiError('NOT_IMPLEMENTED', [`export as ${format}`]));
    connection.respondAndClose(404, {});
    return;
  }
  connection.writeHead(200, {
    connection: 'close',
    'cache-control': 'no-cache, no-store',
    'task-id': taskRef,
    'content-type': 'application/octet-stream',
    'content-disposition': `attachment; filename="${uuidOf(vdi)}.raw"`,
  });
  let vbd: string | undefined;
  try {
    vbd = attachToControlDomain(pool, vdiRef, hostRef, 'RO', taskRef);
    pool.db.flush();
    await send(pool, uuidOf(vdi), numberOf(vdi, 'virtual_size'), taskRef, connection);
    pool.tasks.succeed(taskRef);
  } catch (error) {
    pool.tasks.fail(taskRef, error);
  } finally {
    if (vbd !== undefined && pool.db.find('VBD', vbd) !== undefined) detachLater(pool, vbd);
    pool.db.flush();
    connection.close();
  }
}

async function send(
  pool: Pool,
  uuid: string,
  sizeBytes: number,
  taskRef: string,
  connection: Connection,
): Promise<void> {
  const corrupt = pool.faults.takeFor('corruptExport', uuid)?.offset;
  const file = await open(pool.vdis.path(uuid), 'r');
  try {
    for (let offset = 0; offset < sizeBytes;) {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(Math.min(READ_BYTES, sizeBytes - offset)), {
        position: offset,
      });
      if (bytesRead === 0) throw new XapiError('VDI_IO_ERROR', ['Device I/O errors']);
      const at = corrupt === undefined ? -1 : corrupt - offset;
      if (at >= 0 && at < bytesRead) buffer[at] = (buffer[at] ?? 0) ^ 0xff;
      if (!(await connection.write(buffer.subarray(0, bytesRead)))) {
        throw new XapiError('VDI_IO_ERROR', ['Device I/O errors']);
      }
      offset += bytesRead;
      if (pool.db.find('task', taskRef) !== undefined) pool.tasks.setProgress(taskRef, offset / sizeBytes);
    }
  } finally {
    await file.close();
  }
}
