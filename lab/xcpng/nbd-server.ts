import { createServer, connect, type AddressInfo, type Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { attachToControlDomain, detachLater, uuidOf } from './datapath.js';
import type { HostCertificate } from './certificates.js';
import type { NbdBackend } from './nbd-backend.js';
import type { Pool } from './pool.js';
import { SocketReader } from './socket-reader.js';
import { listOf, mapOf, textOf } from './values.js';

// The door of XAPI's NBD server, as xapi-nbd opens it: fixed newstyle, TLS by STARTTLS where a network has the purpose
// `nbd`, EXPORT_NAME and nothing newer, and a closed connection for every refusal. Behind it a real nbdkit answers the reads.

const GREETING = Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), Buffer.from([0, 1])]);
const OPTION_MAGIC = 0x49484156454f5054n;
const REPLY_MAGIC = 0x3e889045565a9n;
const OPT = { exportName: 1, abort: 2, list: 3, startTls: 5 } as const;
const REP = {
  ack: 1,
  unsupported: 0x80000001,
  policy: 0x80000002,
  invalid: 0x80000003,
  tlsRequired: 0x80000005,
} as const;
const LONGEST_OPTION = 4096;
const CONNECTION_LIMIT = 16;
/** Size, flags and 124 zeroes: the answer to EXPORT_NAME. */
const DISK_INFO_BYTES = 134;

export interface NbdHost {
  ref: string;
  address: string;
  certificate: HostCertificate;
}

/** Opens the NBD port of one host. Refuses everybody while no network has a purpose for it. */
export async function openNbd(pool: Pool, backend: NbdBackend, host: NbdHost): Promise<{ close(): Promise<void> }> {
  removeLeftBehind(pool, host.ref);
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
    const usesTls = tlsByPurpose(pool);
    if (sockets.size > CONNECTION_LIMIT || usesTls === undefined) socket.destroy();
    else serve(pool, backend, host, socket, usesTls).catch(() => socket.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, host.address, resolve);
  });
  pool.nbdPorts.set(host.ref, (server.address() as AddressInfo).port);
  return {
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => resolve());
      }),
  };
}

/** What a crash left attached; xapi-nbd looks for it at its start. */
function removeLeftBehind(pool: Pool, hostRef: string): void {
  const domain = pool.controlDomain(hostRef);
  for (const [ref, vbd] of pool.db.entries('VBD')) {
    if (vbd['VM'] === domain && vbd['mode'] === 'RO' && mapOf(vbd, 'other_config')['task_id'] === '') {
      pool.db.delete('VBD', ref);
    }
  }
}

/** True: encrypted, false: in clear, undefined: not at all. Both purposes in one pool contradict each other. */
function tlsByPurpose(pool: Pool): boolean | undefined {
  const purposes = new Set(pool.db.entries('network').flatMap(([, network]) => listOf(network, 'purpose')));
  const [tls, clear] = [purposes.has('nbd'), purposes.has('insecure_nbd')];
  return tls === clear ? undefined : tls;
}

async function serve(pool: Pool, backend: NbdBackend, host: NbdHost, plain: Socket, usesTls: boolean): Promise<void> {
  let socket = plain;
  let reader = new SocketReader(socket);
  socket.write(GREETING);
  await exactly(reader, 4);
  let isOpen = !usesTls;
  for (;;) {
    const { option, data } = await nextOption(reader);
    const answer = (reply: number) => socket.write(replyTo(option, reply));
    if (option === OPT.abort || (option === OPT.exportName && !isOpen)) return void socket.destroy();
    if (option === OPT.exportName) return give(pool, backend, host.ref, socket, data.toString());
    if (option === OPT.startTls && usesTls && socket === plain) {
      answer(REP.ack);
      socket = await encrypt(plain, host.certificate);
      reader = new SocketReader(socket);
      isOpen = true;
    } else if (!isOpen) answer(REP.tlsRequired);
    else if (option === OPT.startTls) answer(usesTls ? REP.invalid : REP.policy);
    else answer(option === OPT.list ? REP.policy : REP.unsupported);
  }
}

function encrypt(plain: Socket, { key, cert }: HostCertificate): Promise<TLSSocket> {
  plain.removeAllListeners('readable');
  const secure = new TLSSocket(plain, { isServer: true, key, cert });
  return new Promise((resolve, reject) => {
    secure.once('secure', () => resolve(secure));
    secure.on('error', reject);
  });
}

/** Checks session and VDI, attaches it to the control domain as long as the connection lives, and lets nbdkit answer. */
async function give(pool: Pool, backend: NbdBackend, hostRef: string, socket: Socket, name: string): Promise<void> {
  const uri = new URL(name, 'nbd://host');
  if (pool.db.find('session', uri.searchParams.get('session_id') ?? '') === undefined) return void socket.destroy();
  const vdiRef = pool.db.byUuid('VDI', uri.pathname.slice(1));
  const vdi = pool.db.get('VDI', vdiRef);
  if (!pool.hostsOfSr(textOf(vdi, 'SR')).includes(hostRef)) return void socket.destroy();
  const vbd = attachToControlDomain(pool, vdiRef, hostRef, 'RO', '');
  pool.db.flush();
  const source = connect(await backend.socketPath());
  const end = () => {
    source.destroy();
    socket.destroy();
  };
  socket.once('close', () => {
    end();
    if (pool.db.find('VBD', vbd) !== undefined) detachLater(pool, vbd);
    pool.db.flush();
  });
  if (socket.destroyed) socket.emit('close');
  source.on('error', end).on('close', end);
  const reader = new SocketReader(source);
  await exactly(reader, GREETING.length);
  const file = Buffer.from(`${uuidOf(vdi)}.raw`);
  const option = Buffer.alloc(4 + 16);
  // Without NO_ZEROES, so that its answer is XAPI's to the byte.
  option.writeUInt32BE(1, 0);
  option.writeBigUInt64BE(OPTION_MAGIC, 4);
  option.writeUInt32BE(OPT.exportName, 12);
  option.writeUInt32BE(file.length, 16);
  source.write(Buffer.concat([option, file]));
  socket.write(await exactly(reader, DISK_INFO_BYTES));
  for (const one of [source, socket]) one.removeAllListeners('readable');
  source.pipe(socket);
  socket.pipe(source);
}

async function nextOption(reader: SocketReader): Promise<{ option: number; data: Buffer }> {
  const head = await exactly(reader, 16);
  const length = head.readUInt32BE(12);
  if (head.readBigUInt64BE(0) !== OPTION_MAGIC || length > LONGEST_OPTION) throw new Error('not an NBD option');
  return { option: head.readUInt32BE(8), data: await exactly(reader, length) };
}

function replyTo(option: number, reply: number): Buffer {
  const bytes = Buffer.alloc(20);
  bytes.writeBigUInt64BE(REPLY_MAGIC, 0);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(reply, 12);
  return bytes;
}

async function exactly(reader: SocketReader, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  if ((await reader.readInto(bytes, length)) < length) throw new Error('the client left');
  return bytes;
}
