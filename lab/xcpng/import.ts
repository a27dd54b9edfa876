import { open } from 'node:fs/promises';
import { attachToControlDomain, detachLater, resolveVdi, uuidOf } from './datapath.js';
import { asXapiError, XapiError } from './errors.js';
import type { Connection, HttpRequest } from './http.js';
import type { ImportRecord } from './import-log.js';
import type { Pool } from './pool.js';
import { BlockDevice, receiveChunked, receiveRaw, ReceiverFailure, type ByteSource } from './receiver.js';
import { ConnectionReset, type SocketReader } from './socket-reader.js';
import { refreshUsage } from './storage.js';
import { numberOf, textOf } from './values.js';

/** A failure before the 200: the status is the answer, and the task fails with `error` unless it is left pending. */
interface Refusal {
  status: number;
  error?: XapiError;
  location?: string;
}

/** `PUT /import_raw_vdi`: answers 200 before it has attached anything or read one byte. */
export async function importRawVdi(
  pool: Pool,
  hostRef: string,
  request: HttpRequest,
  connection: Connection,
): Promise<void> {
  const named = request.param('task_id');
  if (named !== undefined) pool.db.get('task', named);
  const vdi = request.param('vdi');
  // An unknown VDI raises here, outside the code that fails the task: 500, and the task stays pending.
  const vdiRef = vdi === undefined ? undefined : resolveVdi(pool, vdi);
  const taskRef = named ?? pool.tasks.create('Importing raw VDI', '', hostRef);
  const refusal = vdiRef === undefined ? missingVdi() : refusalOf(pool, hostRef, vdiRef, request);
  if (refusal !== undefined) {
    if (refusal.error !== undefined) pool.tasks.fail(taskRef, refusal.error);
    pool.db.flush();
    const headers: Record<string, string> = refusal.location === undefined ? {} : { location: refusal.location };
    connection.respondAndClose(refusal.status, { ...headers, 'task-id': taskRef });
    return;
  }
  connection.writeHead(200, {
    connection: 'close',
    'cache-control': 'no-cache, no-store',
    'task-id': taskRef,
    'content-type': 'application/octet-stream',
  });
  await receive(pool, hostRef, vdiRef as string, taskRef, request, connection);
}

function missingVdi(): Refusal {
  return { status: 400, error: new XapiError('VDI_MISSING') };
}

function refusalOf(pool: Pool, hostRef: string, vdiRef: string, request: HttpRequest): Refusal | undefined {
  const hosts = pool.hostsOfSr(textOf(pool.db.get('VDI', vdiRef), 'SR'));
  if (hosts.length === 0) return { status: 400, error: new XapiError('NO_HOSTS_AVAILABLE') };
  if (!hosts.includes(hostRef)) {
    const authority = pool.authorities.get(hosts[0] ?? '') ?? '';
    return { status: 302, location: `https://${authority}/import_raw_vdi?${request.queryText}` };
  }
  const internal = (text: string): Refusal => ({ status: 404, error: new XapiError('INTERNAL_ERROR', [text]) });
  const format = (request.param('format') ?? 'raw').toLowerCase();
  if (!['raw', 'vhd', 'tar', 'qcow2'].includes(format)) return internal(`Unknown format ${format}`);
  if (request.headers.has('transfer-encoding')) {
    return internal(`Cannot handle encoding: ${request.headers.get('transfer-encoding')}`);
  }
  // Presence decides: `chunked=false` is chunked too.
  if (request.param('chunked') !== undefined && format !== 'raw') return internal('Cannot handle chunked VHD');
  if (format !== 'raw') return { status: 404, error: new XapiError('NOT_IMPLEMENTED', [`import as ${format}`]) };
  return undefined;
}

async function receive(
  pool: Pool,
  hostRef: string,
  vdiRef: string,
  taskRef: string,
  request: HttpRequest,
  connection: Connection,
): Promise<void> {
  const vdi = pool.db.get('VDI', vdiRef);
  const isChunked = request.param('chunked') !== undefined;
  const record = pool.imports.begin({
    vdiUuid: uuidOf(vdi),
    taskRef,
    hostRef,
    mode: isChunked ? 'chunked' : 'raw',
  });
  let isRestart = false;
  let vbdRef: string | undefined;
  try {
    vbdRef = attachToControlDomain(pool, vdiRef, hostRef, 'RW', taskRef);
    pool.db.flush();
    const device = await openDevice(pool, vdiRef, (bytes) => pool.imports.wrote(record, bytes));
    const abandon = (): void => {
      isRestart = true;
      device.isRevoked = true;
      connection.socket.destroy();
    };
    pool.importsUnderWay.set(vbdRef, { abandon, revoke: () => (device.isRevoked = true) });
    try {
      const source = new FaultySource(pool, record, connection);
      const length = request.headers.get('content-length');
      if (isChunked) await receiveChunked(source, device, (chunk) => pool.imports.announced(record, chunk));
      else await receiveRaw(source, device, length === undefined ? undefined : Number(length));
    } finally {
      await device.close();
    }
    record.outcome = 'success';
    if (pool.faults.takeFor('vanishTask', record.vdiUuid) !== undefined) pool.db.delete('task', taskRef);
    else pool.tasks.succeed(taskRef, `<value>${vdiRef}</value>`);
  } catch (error) {
    record.outcome = isRestart ? 'restart' : String(error);
    const isDevice = error instanceof ReceiverFailure || error instanceof ConnectionReset;
    const failure = isDevice ? new XapiError('VDI_IO_ERROR', ['Device I/O errors']) : asXapiError(error);
    pool.tasks.fail(taskRef, failure);
    if (!isRestart) writeFailureIntoBody(connection, failure);
  } finally {
    pool.imports.end(record);
    refreshUsage(pool, vdiRef);
    if (vbdRef !== undefined) {
      pool.importsUnderWay.delete(vbdRef);
      if (!isRestart && pool.db.find('VBD', vbdRef) !== undefined) detachLater(pool, vbdRef);
    }
    pool.db.flush();
    connection.close();
  }
}

async function openDevice(pool: Pool, vdiRef: string, onWrite: (bytes: number) => void): Promise<BlockDevice> {
  const vdi = pool.db.get('VDI', vdiRef);
  const uuid = uuidOf(vdi);
  const full = pool.faults.takeFor('enospc', uuid)?.offset;
  const slow = pool.faults.takeFor('slow', uuid)?.writeMs;
  const file = await open(pool.vdis.path(uuid), 'r+');
  const spoil = (bytes: Buffer, start: number): void => {
    const isHere = ({ vdi: only, offset }: { vdi?: string; offset: number }): boolean =>
      (only === undefined || only === uuid) && offset >= start && offset < start + bytes.length;
    const fault = pool.faults.take('corruptImport', isHere);
    if (fault !== undefined) bytes[fault.offset - start] = (bytes[fault.offset - start] ?? 0) ^ 0xff;
  };
  const size = numberOf(vdi, 'virtual_size');
  return new BlockDevice(file, size, { onWrite, spoil, fullFrom: full, writeDelayMs: slow });
}

/** After the 200 there is no status left, so XAPI writes its error pages into the body. Any body means failure. */
function writeFailureIntoBody(connection: Connection, failure: XapiError): void {
  connection.writeHead(400, { connection: 'close', 'cache-control': 'no-cache, no-store' });
  const page = `<html><body><h1>HTTP 500 internal server error</h1>${failure.code}: [ ${failure.params.join('; ')} ]</body></html>`;
  connection.respond(500, { connection: 'close', 'content-type': 'text/html' }, page);
}

/** The connection's bytes, with the armed faults of the line on the way. */
class FaultySource implements ByteSource {
  readonly #reader: SocketReader;
  readonly #connection: Connection;
  readonly #record: ImportRecord;
  readonly #cut: { afterBytes: number; mode?: 'fin' | 'rst' } | undefined;
  readonly #stall: { afterBytes: number; seconds: number } | undefined;
  readonly #start: number;
  #stalled = false;

  constructor(pool: Pool, record: ImportRecord, connection: Connection) {
    this.#reader = connection.reader;
    this.#connection = connection;
    this.#record = record;
    this.#cut = pool.faults.takeFor('cut', record.vdiUuid);
    this.#stall = pool.faults.takeFor('stall', record.vdiUuid);
    this.#start = connection.reader.takenBytes;
  }

  async readInto(target: Buffer, length: number): Promise<number> {
    const taken = this.#reader.takenBytes - this.#start;
    if (this.#stall !== undefined && !this.#stalled && taken + length > this.#stall.afterBytes) {
      this.#stalled = true;
      await new Promise((resolve) => setTimeout(resolve, (this.#stall?.seconds ?? 0) * 1000));
    }
    const allowed = this.#cut === undefined ? length : Math.max(0, Math.min(length, this.#cut.afterBytes - taken));
    const count = await this.#reader.readInto(target, allowed);
    this.#record.bodyBytes = this.#reader.takenBytes - this.#start;
    if (allowed < length && count === allowed) {
      this.#connection.socket.destroy();
      if (this.#cut?.mode === 'rst') throw new ConnectionReset();
    }
    return count;
  }
}
