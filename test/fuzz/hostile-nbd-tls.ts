import { createServer, type AddressInfo, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { TLSSocket } from 'node:tls';
import { connectExport } from '../../src/nbd/index.js';
import { SocketReader } from '../../lab/xcpng/socket-reader.js';
import { testCertificate, type TestCertificate } from '../nbd/tls-server.js';
import { content, optionReply, outcomeOf, SIZE, spoilt, u32, u64 } from './hostile-nbd.js';
import type { Outcome } from './peers.js';
import { Random } from './random.js';

/** TLS takes its time on a busy machine. */
const timeouts = { connectMs: 1_500, requestMs: 300, drainMs: 100 };

const OPT = { exportName: 1, startTls: 5 } as const;
const ACK = 1;
const UNSUPPORTED = 0x80000001;
const POLICY = 0x80000002;
/** Of a simple reply what may be flipped: with another cookie it is the reply to another request, which no protocol shows. */
const BEFORE_COOKIE = 8;

const certificates = Promise.all([testCertificate(), testCertificate()]);

/**
 * As `hostileNbd`, with a server in the network that is to speak as XAPI's: STARTTLS, EXPORT_NAME, simple replies.
 *
 * @throws Error on a hang, a wrong byte or a failure without a type.
 */
export async function hostileNbdOverTls(seed: number): Promise<Outcome> {
  const [mine, foreign] = await certificates;
  const random = new Random(seed);
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket.on('error', () => undefined));
    serve(socket, random, random.chance(0.05) ? foreign : mine).catch(() => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  try {
    const remote = { host: '127.0.0.1', port, exportName: '/vdi?session_id=OpaqueRef:s', tls: { ca: mine.cert } };
    return await outcomeOf(connectExport(remote, { subject: 'the disk', timeouts }), seed);
  } finally {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  }
}

async function serve(plain: Socket, random: Random, certificate: TestCertificate): Promise<void> {
  const evil = random.pick([0, 0, 0.02, 0.1, 0.4]);
  const flags = random.pick([1, 3]);
  const greeting = Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), Buffer.from([0, flags])]);
  plain.write(random.chance(evil) ? spoilt(greeting, random) : greeting);
  const reader = new SocketReader(plain);
  await exactly(reader, 4);
  const head = await exactly(reader, 16);
  if (head.readUInt32BE(8) !== OPT.startTls) throw new Error('the client speaks in clear text');
  const ack = optionReply(OPT.startTls, ACK, Buffer.alloc(0));
  const misdeed = random.chance(evil) ? random.below(6) : -1;
  if (misdeed === 0) plain.write(optionReply(OPT.startTls, random.pick([UNSUPPORTED, POLICY, 3, 99]), random.bytes(9)));
  else if (misdeed === 1) plain.write(spoilt(ack, random));
  // What is said in clear text behind it must not be taken for something that came encrypted.
  else if (misdeed === 2) plain.write(Buffer.concat([ack, exportInfo(SIZE / 2, flags)]));
  else plain.write(ack);
  if (misdeed === 3) return void plain.write(random.bytes(100));
  if (misdeed === 4) return void plain.end();
  if (misdeed === 5) return void (await sleep(timeouts.connectMs + 500));
  plain.removeAllListeners('readable');
  const secure = new TLSSocket(plain, { isServer: true, key: certificate.key, cert: certificate.cert });
  await new Promise((resolve, reject) => void secure.once('secure', resolve).on('error', reject).once('close', reject));
  await speak(secure, plain, random, { evil, flags });
}

async function speak(socket: TLSSocket, tcp: Socket, random: Random, { evil, flags }: { evil: number; flags: number }) {
  const reader = new SocketReader(socket);
  for (let isOver = false; !isOver;) {
    const head = await exactly(reader, 16);
    const option = head.readUInt32BE(8);
    await exactly(reader, head.readUInt32BE(12));
    isOver = option === OPT.exportName;
    const answer = isOver ? exportInfo(SIZE, flags) : optionReply(option, UNSUPPORTED, Buffer.alloc(0));
    if (!random.chance(evil)) socket.write(answer);
    // A flipped bit of the size is a lie; a size that no disk has is not.
    else if (isOver) socket.write(random.pick([exportInfo(2 ** 60, flags), answer.subarray(0, random.below(10))]));
    else if (random.chance(0.3)) for (let i = 0; i < 500; i++) socket.write(optionReply(option, 3, Buffer.alloc(4)));
    else if (random.chance(0.3)) socket.write(optionReply(option, random.pick([POLICY, ACK, 99]), random.bytes(9)));
    else socket.write(spoilt(answer, random));
  }
  const evilReplies = random.pick([0, 0.05, 0.3]);
  let held: Buffer | undefined;
  for (;;) {
    const request = await exactly(reader, 28);
    if (request.readUInt16BE(6) !== 0) return void socket.end();
    const cookie = request.subarray(8, 16);
    const offset = Number(request.readBigUInt64BE(16));
    const data = content.subarray(offset, offset + request.readUInt32BE(24));
    const good = simple(0, cookie, data);
    const acts: (() => unknown)[] = [
      () => (socket.write(spoilt(good, random, BEFORE_COOKIE)), socket.end()),
      () => socket.write(Buffer.concat([good, good])),
      () => socket.write(simple(0, random.bytes(8), data)),
      () => socket.write(simple(0, Buffer.concat([u32(1), cookie.subarray(4)]), data)),
      () => socket.write(simple(random.pick([1, 5, 22, 0xffffffff]), cookie, Buffer.alloc(0))),
      () => socket.write(simple(5, cookie, data)),
      () => socket.write(Buffer.concat([u32(0x668e33ef), good.subarray(4)])),
      () => socket.write(Buffer.concat([good, random.bytes(1 + random.below(64))])),
      // Out of order, as it may be; the last one never comes.
      () => ((held = held === undefined ? good : Buffer.concat([good, held])), undefined),
      () => drip(socket, good, random.below(good.length)),
      () => tcp.resetAndDestroy(),
      () => tcp.write(random.bytes(40)),
      () => sleep(2 * timeouts.requestMs),
    ];
    if (random.chance(evilReplies)) {
      await random.pick(acts)();
      continue;
    }
    socket.write(held === undefined ? good : Buffer.concat([good, held]));
    held = undefined;
  }
}

/**
 * Some at once and the rest byte by byte, each well before any silence would be noticed, and never to an end. The bytes are the
 * right ones: a wrong one at the end of a reply is a lie that no protocol shows.
 */
async function drip(socket: TLSSocket, bytes: Buffer, atOnce: number): Promise<void> {
  socket.write(bytes.subarray(0, atOnce));
  for (let at = atOnce; !socket.destroyed && !socket.readableEnded; at++) {
    socket.write(bytes.subarray(at % bytes.length, (at % bytes.length) + 1));
    await sleep(timeouts.requestMs / 4);
  }
}

function simple(error: number, cookie: Buffer, data: Buffer): Buffer {
  return Buffer.concat([u32(0x67446698), u32(error), cookie, data]);
}

function exportInfo(size: number, flags: number): Buffer {
  return Buffer.concat([u64(size), Buffer.from([0, 3]), Buffer.alloc(flags === 1 ? 124 : 0)]);
}

async function exactly(reader: SocketReader, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  if ((await reader.readInto(bytes, length)) < length) throw new Error('the client left');
  return bytes;
}
