import { createHash } from 'node:crypto';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import tls, { type TLSSocket } from 'node:tls';
import { SocketReader } from '../../lab/xcpng/socket-reader.js';
import { HEADROOM_BYTES, type SegmentWriter } from '../../src/shared/blocks.js';
import { failure, failureTypeOf } from '../../src/shared/errors.js';
import type { Connection } from '../../src/xapi/connection.js';
import { taskOutcome } from '../../src/xapi/transfers.js';
import { exportRaw, openSegmentPut, type TaskOutcome, type VdiTransferOptions } from '../../src/xapi/upload/index.js';
import { testCertificate } from '../nbd/tls-server.js';
import type { Outcome } from './peers.js';
import { Random, within } from './random.js';

const KiB = 1024;
const MiB = 1024 * KiB;
const HANG_MS = 20_000;
const TIMEOUT_MS = 300;
/** TLS takes its time on a busy machine. */
const CONNECT_MS = 1_500;
const OK = 'HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-type: application/octet-stream\r\n\r\n';
const MARKER = Buffer.alloc(HEADROOM_BYTES);
const TYPES = ['ImportFailed', 'ImportDoubtful', 'ExportIncomplete', 'ConnectionFailed', 'CertificateChanged'];

const certificates = Promise.all([testCertificate(), testCertificate()]);

/** What the host knows of itself. */
interface Truth {
  /** Every byte of the last import, and whether its end marker was among them. */
  received: ReturnType<typeof createHash>;
  hasMarker: boolean;
  /** Bytes of the body that were sent. */
  said: number;
  /** The host closed the connection; Node does not tell whether TLS said goodbye first. */
  hasEnded: boolean;
  /** It went away without a word: when the client hears of that nobody knows. */
  isGone: boolean;
  /** And the client has closed it too. */
  clientLeft: Promise<void>;
  /** The host behaves, whatever its task says. */
  isFair: boolean;
}

/**
 * One import or export with a host that misbehaves as the seed says, over TLS. The one thing it never does is to lie with
 * everything it has: to close the connection, and to have its task say success, after an end marker that it has not read.
 *
 * @throws Error on a hang, a failure without a type, an import or export that counts as done and was not, one that was
 * done and does not count, and a connection that stays open.
 */
export async function hostileXapi(seed: number): Promise<Outcome> {
  const random = new Random(seed);
  const [mine, foreign] = await certificates;
  const truth: Truth = {
    ...{
      received: createHash('sha1'),
      hasMarker: false,
      said: 0,
      hasEnded: false,
      isGone: false,
      clientLeft: Promise.resolve(),
    },
    isFair: random.chance(0.25),
  };
  /** Whether something is done that is not right; never where the host behaves. */
  const evil = (probability: number) => random.chance(probability) && !truth.isFair;
  const isPut = random.chance(0.65);
  const sizeBytes = 512 * random.pick([0, 1, 100, 1 + random.below(2000), 4096]);
  const open = new Set<Socket>();
  const server = tls.createServer({ key: mine.key, cert: mine.cert }, (socket) => {
    const tcp = [...open].find(({ remotePort }) => remotePort === socket.remotePort) ?? socket;
    // The connection below may not say that it has closed: a reset of one that is half closed fails in Node 20.
    const forget = () => [socket, tcp].forEach((one) => open.delete(one));
    open.add(socket.on('error', () => undefined).on('close', forget));
    serve(socket, { random, truth, evil, sizeBytes, tcp, port: portOf(server) }).catch(() => socket.destroy());
  });
  server.on('tlsClientError', () => undefined);
  server.on('connection', (tcp: Socket) => {
    open.add(tcp.on('error', () => undefined).on('close', () => open.delete(tcp)));
    const acts = [() => tcp.destroy(), () => tcp.resetAndDestroy(), () => tcp.write('SSH-2.0\r\n')];
    if (evil(0.03)) random.pick(acts)();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const said: { outcome?: TaskOutcome } = {};
  const stop = new AbortController();
  const timer = evil(0.05) && setTimeout(() => stop.abort(new Error('paused')), random.below(200));
  const idleTimeoutMs = truth.isFair ? HANG_MS : TIMEOUT_MS;
  const options: VdiTransferOptions = {
    host: {
      url: `https://127.0.0.1:${portOf(server)}`,
      tls: { ca: (evil(0.03) ? foreign : mine).cert },
    },
    ...{ sessionId: 'OpaqueRef:s', taskRef: 'OpaqueRef:t', vdiRef: 'OpaqueRef:v', signal: stop.signal },
    ...{ connectTimeoutMs: truth.isFair ? HANG_MS : CONNECT_MS, idleTimeoutMs },
    taskOutcome: () => taskOf(random, truth.hasMarker || (!isPut && truth.said === sizeBytes), said),
    ...(random.chance(0.8) && {
      tlsForHost: () =>
        random.chance(0.1)
          ? Promise.reject(failure('ConnectionFailed', { what: 'The pool does not answer.' }))
          : Promise.resolve({ ca: (random.chance(0.1) ? foreign : mine).cert }),
    }),
  };
  const result: Outcome = { opened: false, right: 0, refused: 0 };
  const transfer = isPut ? upload(options, random, truth, result) : download(options, random, truth, sizeBytes, result);
  try {
    try {
      await within(HANG_MS, isPut ? 'the import' : 'the export', transfer);
      result.right = 1;
    } catch (error) {
      const isOurs = error === LEFT || (stop.signal.aborted && error === stop.signal.reason);
      if (!isOurs && !TYPES.includes(failureTypeOf(error) ?? '')) throw error;
      result.refused = 1;
      const isUnjust = truth.isFair && !isOurs && said.outcome?.status === 'success';
      if (isUnjust) throw new Error(`WRONG: all was well, yet: ${String(error)}`);
    }
    if (result.right > 0 && said.outcome?.status !== 'success')
      throw new Error('WRONG: done, but its task did not say so');
    // A host that has stopped reading does not see either that the client is gone.
    for (const socket of open) socket.removeAllListeners('readable');
    setImmediate(() => open.forEach((socket) => socket.resume()));
    await within(HANG_MS, 'a connection that nobody needs', closed(open));
    return result;
  } finally {
    if (timer) clearTimeout(timer);
    for (const socket of open) socket.destroy();
    server.close();
  }
}

/** What comes on another connection is another story. */
const REDIRECTED = 'redirected';
/** The driver itself gave up. */
const LEFT = new Error('left by the driver');

async function upload(options: VdiTransferOptions, random: Random, truth: Truth, result: Outcome): Promise<void> {
  const writer = await openSegmentPut(options);
  result.opened = true;
  const sent = createHash('sha1');
  const count = random.below(5);
  const largest = random.chance(0.05) ? 4 * MiB : 64 * KiB;
  const leavesAt = random.chance(0.1) ? random.below(count + 1) : -1;
  const writes: Promise<void>[] = [];
  for (let index = 0; index < count; index++) {
    if (index === leavesAt) break;
    const buffer = Buffer.alloc(HEADROOM_BYTES + 512 * (1 + random.below(largest / 512)), index + 1);
    const payload = buffer.subarray(HEADROOM_BYTES);
    const offset = 512 * random.below(2 ** 32);
    writes.push(writer.write(offset, payload));
    // The header is in the buffer as soon as the write has begun.
    writes.at(-1)?.then(
      () => sent.update(buffer),
      () => undefined,
    );
    if (random.chance(0.7)) await settled(writer, writes);
  }
  if (leavesAt >= 0) {
    writer.abort();
    await Promise.allSettled(writes);
    throw LEFT;
  }
  await settled(writer, writes);
  const isOver = truth.hasEnded;
  if (isOver) await within(HANG_MS, 'the client hears that the host has ended', truth.clientLeft);
  await writer.finish().catch((error: unknown) => {
    writer.abort();
    throw error;
  });
  const isWhole = truth.hasMarker && truth.received.digest('hex') === sent.update(MARKER).digest('hex');
  if (truth.said > 0) throw new Error('WRONG: an import is done whose answer had a body');
  if (isOver || !(truth.hasEnded || truth.isGone) || (truth.hasMarker && !isWhole))
    throw new Error('WRONG: an import is done that was not');
}

async function settled(writer: SegmentWriter, writes: Promise<void>[]): Promise<void> {
  try {
    await Promise.all(writes);
  } catch (error) {
    writer.abort();
    await Promise.allSettled(writes);
    throw error;
  }
}

async function download(
  options: VdiTransferOptions,
  random: Random,
  truth: Truth,
  sizeBytes: number,
  result: Outcome,
): Promise<void> {
  let bytes = 0;
  const leavesAt = random.chance(0.1) ? random.below(sizeBytes + 1) : Infinity;
  for await (const piece of exportRaw({ ...options, sizeBytes })) {
    result.opened = true;
    bytes += piece.length;
    if (bytes > sizeBytes) throw new Error(`WRONG: ${bytes} of ${sizeBytes} bytes were given out`);
    if (bytes > leavesAt) throw LEFT;
    if (random.chance(0.01)) await sleep(random.below(20));
  }
  if (bytes !== sizeBytes || truth.said !== sizeBytes) throw new Error('WRONG: an export is done that was not');
}

/** What the pool's task says: the truth, a lie, nothing or nonsense; asked for as the product does. */
async function taskOf(random: Random, isDone: boolean, said: { outcome?: TaskOutcome }): Promise<TaskOutcome> {
  const success = { status: 'success' };
  const failed = { status: 'failure', error_info: ['VDI_IO_ERROR', 'Device I/O errors'] };
  const record = random.pick([
    ...Array.from({ length: 9 }, () => (isDone ? success : failed)),
    ...[success, failed, { status: 'cancelled' }, {}, new Error('HANDLE_INVALID'), new Error('ECONNRESET')],
    { status: 'failure', error_info: random.pick([[], null, 'VDI_IO_ERROR', [null, {}], ['a'.repeat(MiB)]]) },
  ]);
  const slowly = random.chance(0.05);
  let asked = 0;
  const call = () =>
    record instanceof Error
      ? Promise.reject(Object.assign(record, { code: record.message }))
      : Promise.resolve(slowly && asked++ === 0 ? { status: 'pending' } : record);
  return (said.outcome = await taskOutcome({ call } as unknown as Connection, 'OpaqueRef:t'));
}

interface Host {
  random: Random;
  truth: Truth;
  evil: (probability: number) => boolean;
  sizeBytes: number;
  tcp: Socket;
  port: number;
}

async function serve(socket: TLSSocket, host: Host): Promise<void> {
  const { random, truth, evil, tcp, port } = host;
  const reader = new SocketReader(socket);
  const head = await reader.readHead(8 * KiB);
  if (typeof head !== 'string') return void socket.destroy();
  Object.assign(truth, { said: 0, hasMarker: false, hasEnded: false, isGone: false });
  truth.clientLeft = new Promise((resolve) => void socket.on('end', resolve).on('close', resolve));
  const say = (text: string | Buffer) => ((truth.said += text.length), socket.write(text));
  const redirect = (to: string) => () => {
    socket.write(`HTTP/1.1 302 Found\r\nLocation: ${to}\r\n\r\n`);
    return REDIRECTED;
  };
  const bad: (() => unknown)[] = [
    () => socket.write(spoilt(OK, random, truth)),
    ...[`https://127.0.0.1:${port}/import_raw_vdi?a=%0d%0ab`, `https://127.0.0.1:${port}`].map(redirect),
    ...[
      '/elsewhere',
      'http://127.0.0.1/',
      'https://[',
      'https://127.0.0.1:1/',
      `https://127.0.0.1:${port}/\xff\0`,
      '',
    ].map(redirect),
    redirect(`https://127.0.0.1:${port}/${'a'.repeat(9000)}`),
    () =>
      socket.write(
        `HTTP/1.1 ${random.pick(['401 No', '403 No', '500 Oh', '100 Continue', '206 Part', '2000', '20'])}\r\n\r\n`,
      ),
    () => socket.write('HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n'),
    () => flood(socket, 'HTTP/1.1 200 OK\r\nA: '),
    () => drip(socket, `HTTP/1.1 200 OK\r\nA: ${'b'.repeat(1000)}`),
    () => sleep(CONNECT_MS + 500),
    () => socket.end(),
    () => tcp.resetAndDestroy(),
  ];
  const start = random.below(4);
  if (evil(0.2) && (await random.pick(bad)()) === REDIRECTED) return;
  else
    socket.write(
      start === 0 ? OK.replace('\r\n\r\n', '\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n') : OK,
    );
  await (head.startsWith('PUT') ? receive(socket, reader, host, say) : give(socket, host, say));
}

/** Takes an import, up to a moment at which something may go wrong. */
async function receive(socket: TLSSocket, reader: SocketReader, host: Host, say: (text: string | Buffer) => unknown) {
  const { random, truth, evil, tcp } = host;
  truth.received = createHash('sha1');
  const end = () => ((truth.hasEnded = true), socket.end());
  const text = 'HTTP/1.1 400 Bad Request\r\n\r\nHTTP/1.1 500 Internal Error\r\n\r\n';
  const acts: (() => unknown)[] = [
    end,
    () => (say(text), end()),
    () => say(text),
    () => drip(socket, text, say),
    () => flood(socket, text, say),
    () => ((truth.isGone = true), socket.destroy()),
    () => tcp.resetAndDestroy(),
    () => tcp.write(random.bytes(40)),
    () => sleep(2 * TIMEOUT_MS),
    // Takes crumbs from now on.
    async () => {
      for (let bytes = await reader.next(); bytes !== undefined; bytes = await reader.next()) await sleep(100);
      socket.destroy();
    },
    // Takes nothing from now on.
    () => new Promise((resolve) => socket.once('close', resolve)),
  ];
  const act = evil(0.6) ? random.pick(acts) : undefined;
  let left = random.chance(0.4) ? Infinity : random.below(random.pick([16, 100 * KiB, 8 * MiB]));
  const take = async (length: number): Promise<Buffer> => {
    const bytes = Buffer.alloc(length);
    for (let at = 0; at < length;) {
      const part = Math.min(length - at, left);
      if ((await reader.readInto(bytes.subarray(at), part)) < part) throw new Error('the client left');
      at += part;
      left -= part;
      if (left === 0) {
        left = Infinity;
        await act?.();
      }
    }
    truth.received.update(bytes);
    return bytes;
  };
  for (;;) {
    const header = await take(HEADROOM_BYTES);
    if (header.equals(MARKER)) break;
    await take(header.readUInt32LE(8));
  }
  truth.hasMarker = true;
  if (left !== Infinity) await act?.();
  if (!evil(0.1)) end();
}

/** Gives an export, or something like one. */
async function give(
  socket: TLSSocket,
  { random, sizeBytes, evil, tcp }: Host,
  say: (text: string | Buffer) => unknown,
) {
  const cut = evil(0.5) ? random.below(sizeBytes + 1) : sizeBytes;
  for (let at = 0; at < cut;) {
    const length = Math.min(cut - at, 1 + random.below(256 * KiB));
    say(Buffer.alloc(length, 7));
    at += length;
    if (random.chance(0.2)) await sleep(random.below(30));
  }
  const rest = Buffer.alloc(sizeBytes - cut + random.below(600), 8);
  const acts: (() => unknown)[] = [
    () => say(rest),
    () => say('HTTP/1.1 500 Internal Error\r\n\r\n'),
    () => drip(socket, rest, say),
    () => flood(socket, 'x', say),
    () => tcp.resetAndDestroy(),
    () => sleep(2 * TIMEOUT_MS),
    () => tcp.write(random.bytes(40)),
  ];
  if (evil(0.5)) await random.pick(acts)();
  if (!evil(0.1)) socket.end();
}

/** The head cut short, with a flipped bit, or with more behind it than belongs to it. */
function spoilt(text: string, random: Random, truth: Truth): Buffer {
  const bytes = Buffer.from(text, 'latin1');
  const kind = random.below(3);
  if (kind === 0) return bytes.subarray(0, random.below(bytes.length));
  if (kind === 1) {
    const extra = random.bytes(1 + random.below(64));
    truth.said += extra.length;
    return Buffer.concat([bytes, extra]);
  }
  const at = random.below(bytes.length);
  bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
  return bytes;
}

type Say = (bytes: Buffer | string) => unknown;

/** Byte by byte, each well before any silence would be noticed, and never to an end. */
async function drip(socket: TLSSocket, bytes: Buffer | string, say: Say = (one) => socket.write(one)): Promise<void> {
  for (let at = 0; !socket.destroyed && !socket.readableEnded; at++) {
    say(Buffer.from([Buffer.from(bytes)[at % bytes.length] ?? 0]));
    await sleep(TIMEOUT_MS / 4);
  }
}

/** As much as the client takes. */
async function flood(socket: TLSSocket, start: string, say: Say = (bytes) => socket.write(bytes)): Promise<void> {
  say(start);
  for (let sent = 0; sent < 64 * MiB && !socket.destroyed; sent += 256 * KiB) {
    say(Buffer.alloc(256 * KiB, 97));
    while (socket.writableNeedDrain && !socket.destroyed) await sleep(5);
  }
}

const portOf = (server: tls.Server) => (server.address() as AddressInfo).port;

async function closed(sockets: Set<Socket>): Promise<void> {
  while (sockets.size > 0) await sleep(5);
}
