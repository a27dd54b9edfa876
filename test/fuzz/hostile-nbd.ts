import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectDisk, type DiskSource, type NbdClient } from '../../src/nbd/index.js';
import { HEADROOM_BYTES } from '../../src/shared/blocks.js';
import { failureTypeOf } from '../../src/shared/errors.js';
import { SocketReader } from '../../lab/xcpng/socket-reader.js';
import type { Outcome } from './peers.js';
import { Random, within } from './random.js';

export const SIZE = 1024 * 1024;
const BLOCK = 4096;
export const HANG_MS = 10_000;

const timeouts = { connectMs: 300, requestMs: 300, drainMs: 100 };

/** What the disk really holds: every fourth block is zero, the others say where they are. */
export const content = Buffer.alloc(SIZE);
for (let at = 0; at < SIZE; at += 4) if (Math.floor(at / BLOCK) % 4 !== 0) content.writeUInt32LE(at | 1, at);

/**
 * One connection to a server that misbehaves as the seed says. It never lies about content in a well-formed reply, for
 * that nobody could notice; everything else it does.
 *
 * @throws Error on a hang, a wrong byte or a failure without a type.
 */
export async function hostileNbd(seed: number): Promise<Outcome> {
  const dir = await mkdtemp(join(tmpdir(), 'fz-'));
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    serve(socket, new Random(seed)).catch(() => socket.destroy());
  });
  const socketPath = join(dir, 's');
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  // What explains a refusal is nbdkit's stderr; this one has none.
  const source = {
    socketPath,
    exited: () => undefined,
    errorSince: () => Promise.resolve(''),
  } as Partial<DiskSource> as DiskSource;
  try {
    return await outcomeOf(connectDisk(source, { subject: 'the disk', timeouts }), seed);
  } finally {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
    await rm(dir, { recursive: true, force: true });
  }
}

/** Asks as soon as it is connected. A failure without a type, a hang or a wrong byte rejects. */
export async function outcomeOf(connecting: Promise<NbdClient>, seed: number): Promise<Outcome> {
  const result: Outcome = { opened: false, right: 0, refused: 0 };
  let client: NbdClient;
  try {
    client = await within(HANG_MS, 'connect', connecting);
  } catch (error) {
    if (failureTypeOf(error) === undefined) throw error;
    return result;
  }
  await askEverything(client, seed, result);
  return result;
}

/**
 * Reads and maps with many requests in flight, then says goodbye.
 *
 * @throws Error on a hang, a wrong byte or a failure without a type.
 */
async function askEverything(client: NbdClient, seed: number, result: Outcome): Promise<void> {
  result.opened = true;
  const random = new Random(seed + 1);
  const reads = Array.from({ length: 6 }, async () => {
    const length = 512 * (1 + random.below(64));
    const offset = 512 * random.below((SIZE - length) / 512);
    const buffer = Buffer.alloc(HEADROOM_BYTES + length, 0xaa);
    await client.read(offset, length, buffer);
    if (!buffer.subarray(HEADROOM_BYTES).equals(content.subarray(offset, offset + length))) {
      throw new Error(`WRONG BYTE in ${length} bytes at ${offset}`);
    }
  });
  const map = (async () => {
    let at = 0;
    for await (const extent of client.mapExtents()) {
      if (extent.offset !== at || extent.length <= 0) throw new Error('WRONG BYTE: a map with a gap');
      at += extent.length;
    }
    if (at !== SIZE) throw new Error(`WRONG BYTE: a map of ${at} bytes`);
  })();
  for (const settled of await within(HANG_MS, 'requests', Promise.allSettled([...reads, map]))) {
    if (settled.status === 'fulfilled') result.right += 1;
    else if (failureTypeOf(settled.reason) === undefined) throw settled.reason;
    else result.refused += 1;
  }
  await within(HANG_MS, 'close', client.close());
}

async function serve(socket: Socket, random: Random): Promise<void> {
  const reader = new SocketReader(socket);
  const take = async (length: number) => {
    const bytes = Buffer.alloc(length);
    if ((await reader.readInto(bytes, length)) < length) throw new Error('the client left');
    return bytes;
  };
  // How likely each step goes wrong; some servers behave until the first read.
  const evil = random.pick([0, 0, 0.02, 0.1, 0.5]);
  const evilReplies = random.pick([0, 0.05, 0.3]);
  const greeting = Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), Buffer.from([0, 3])]);
  socket.write(random.chance(evil) ? spoilt(greeting, random) : greeting);
  await take(4);
  for (let isOver = false; !isOver;) {
    const head = await take(16);
    const option = head.readUInt32BE(8);
    await take(head.readUInt32BE(12));
    const parts: Buffer[] = [];
    if (option === 10) parts.push(optionReply(option, 4, Buffer.concat([u32(7), Buffer.from('base:allocation')])));
    if (option === 7) {
      const info = Buffer.alloc(12);
      info.writeBigUInt64BE(BigInt(SIZE), 2);
      parts.push(optionReply(option, 3, info));
      isOver = true;
    }
    parts.push(optionReply(option, 1, Buffer.alloc(0)));
    const bytes = Buffer.concat(parts);
    if (!random.chance(evil)) socket.write(bytes);
    else if (random.chance(0.2)) for (let i = 0; i < 500; i++) socket.write(optionReply(option, 3, Buffer.alloc(4)));
    else if (random.chance(0.2))
      socket.write(optionReply(option, random.pick([0x80000001, 0x80000003, 99]), random.bytes(9)));
    else socket.write(spoilt(bytes, random));
  }
  for (;;) {
    const request = await take(28);
    const command = request.readUInt16BE(6);
    if (command === 2) return void socket.end();
    const cookie = request.subarray(8, 16);
    const offset = Number(request.readBigUInt64BE(16));
    const length = request.readUInt32BE(24);
    const good =
      command === 7
        ? status(cookie, offset, length)
        : random.chance(0.5)
          ? whole(cookie, offset, length)
          : inParts(cookie, offset, length, random);
    const misdeed = random.chance(evilReplies) ? random.below(12) : -1;
    const first = good[0] ?? Buffer.alloc(0);
    const acts: Record<number, () => Buffer[]> = {
      0: () => [spoilt(Buffer.concat(good), random)],
      1: () => [...good, ...good],
      2: () => [first, ...good],
      3: () => good.toReversed(),
      4: () => good.slice(0, -1),
      5: () => [chunk(cookie, 0x8001, 1, Buffer.concat([u32(5), Buffer.from([0, 0])]))],
      6: () => [
        chunk(cookie, 1, 1, Buffer.concat([u64(offset + 512), content.subarray(offset + 512, offset + 512 + length)])),
      ],
      7: () => [chunk(random.bytes(8), 1, 1, Buffer.concat([u64(offset), content.subarray(offset, offset + length)]))],
      8: () => [head20(cookie, 1, 1, random.pick([0, 4, 8, 9, 0xffffffff, 0x7fffffff, length + 7]))],
      9: () => Array.from({ length: 200 }, () => chunk(cookie, 0, 0, Buffer.alloc(0))),
      10: () => [
        chunk(cookie, random.pick([3, 4, 5, 6, 0x7fff, 0x8005]), random.below(2), random.bytes(random.below(40))),
      ],
      11: () => [chunk(cookie, 2, 0, Buffer.concat([u64(offset), u32(0)])), chunk(cookie, 0, 1, Buffer.alloc(0))],
    };
    for (const piece of acts[misdeed]?.() ?? good) socket.write(piece);
    // After a cut reply the stream ends: what followed would fill the gap, and no protocol could tell.
    if (misdeed === 0 || (misdeed >= 0 && random.chance(0.2))) return void socket.end();
  }
}

/** Truncated, with a flipped byte, or with bytes that nobody asked for. */
export function spoilt(bytes: Buffer, random: Random, headBytes = 16): Buffer {
  const copy = Buffer.from(bytes);
  const kind = random.below(3);
  if (kind === 0) return copy.subarray(0, random.below(copy.length + 1));
  if (kind === 1) return Buffer.concat([copy, random.bytes(1 + random.below(64))]);
  // Of a reply only the head: a flipped byte of content is a lie that no protocol shows.
  const at = random.below(Math.min(copy.length, headBytes));
  copy[at] = (copy[at] ?? 0) ^ (1 << random.below(8));
  return copy;
}

function whole(cookie: Buffer, offset: number, length: number): Buffer[] {
  return [chunk(cookie, 1, 1, Buffer.concat([u64(offset), content.subarray(offset, offset + length)]))];
}

function inParts(cookie: Buffer, offset: number, length: number, random: Random): Buffer[] {
  const parts: Buffer[] = [];
  for (let at = offset; at < offset + length;) {
    const end = Math.min(offset + length, at - (at % BLOCK) + BLOCK);
    const isZero = Math.floor(at / BLOCK) % 4 === 0;
    if (isZero) parts.push(chunk(cookie, 2, 0, Buffer.concat([u64(at), u32(end - at)])));
    else parts.push(chunk(cookie, 1, 0, Buffer.concat([u64(at), content.subarray(at, end)])));
    at = end;
  }
  if (random.chance(0.3)) parts.reverse();
  return [...parts, chunk(cookie, 0, 1, Buffer.alloc(0))];
}

function status(cookie: Buffer, offset: number, length: number): Buffer[] {
  const extents: Buffer[] = [u32(7)];
  for (let at = offset; at < offset + length;) {
    const end = Math.min(offset + length, at - (at % BLOCK) + BLOCK);
    extents.push(u32(end - at), u32(Math.floor(at / BLOCK) % 4 === 0 ? 3 : 0));
    at = end;
  }
  return [chunk(cookie, 5, 1, Buffer.concat(extents))];
}

function head20(cookie: Buffer, type: number, flags: number, length: number): Buffer {
  const head = Buffer.alloc(20);
  head.writeUInt32BE(0x668e33ef, 0);
  head.writeUInt16BE(flags, 4);
  head.writeUInt16BE(type, 6);
  cookie.copy(head, 8);
  head.writeUInt32BE(length, 16);
  return head;
}

const chunk = (cookie: Buffer, type: number, flags: number, body: Buffer): Buffer =>
  Buffer.concat([head20(cookie, type, flags, body.length), body]);

export function optionReply(option: number, type: number, body: Buffer): Buffer {
  const head = Buffer.alloc(20);
  head.writeBigUInt64BE(0x3e889045565a9n, 0);
  head.writeUInt32BE(option, 8);
  head.writeUInt32BE(type, 12);
  head.writeUInt32BE(body.length, 16);
  return Buffer.concat([head, body]);
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}
