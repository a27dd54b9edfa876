import type { Socket } from 'node:net';

const OPTION_MAGIC = 0x49484156454f5054n;
const OPT_GO = 7;
const OPT_STRUCTURED_REPLY = 8;
const OPT_SET_META_CONTEXT = 10;
const REP_ACK = 1;
const REP_INFO = 3;
const REP_META_CONTEXT = 4;
const REP_ERROR_BIT = 0x80000000;
/** An option reply longer than this is no NBD server. */
const LONGEST_REPLY = 65_536;

export interface NbdExport {
  sizeBytes: number;
  /** Id of `base:allocation`; absent when the server has no map. */
  contextId?: number;
}

/** The server refused an option; nbdkit 1.42 and later put their last error into `text`. */
export class NbdRefused extends Error {
  readonly text: string;
  constructor(option: number, code: number, text: string) {
    super(`the NBD server refused option ${option} (error ${code})${text === '' ? '' : `: ${text}`}`);
    this.text = text;
  }
}

/**
 * Fixed newstyle negotiation: structured replies, `base:allocation`, go.
 *
 * @param take Gives exactly that many next bytes, or rejects when the connection ends.
 * Source: the NBD protocol document, "Handshake".
 */
export async function negotiate(socket: Socket, take: (length: number) => Promise<Buffer>): Promise<NbdExport> {
  const greeting = await take(18);
  const flags = greeting.readUInt16BE(16);
  if (greeting.toString('latin1', 0, 16) !== 'NBDMAGICIHAVEOPT' || (flags & 1) === 0) {
    throw new Error('not a fixed-newstyle NBD server');
  }
  socket.write(u32(1 | (flags & 2)));

  const option = async (code: number, data: Buffer): Promise<{ type: number; body: Buffer }[]> => {
    const head = Buffer.alloc(16);
    head.writeBigUInt64BE(OPTION_MAGIC, 0);
    head.writeUInt32BE(code, 8);
    head.writeUInt32BE(data.length, 12);
    socket.write(Buffer.concat([head, data]));
    for (const replies: { type: number; body: Buffer }[] = []; ;) {
      const reply = await take(20);
      const type = reply.readUInt32BE(12);
      const length = reply.readUInt32BE(16);
      if (length > LONGEST_REPLY) throw new Error(`NBD option reply of ${length} bytes`);
      const body = await take(length);
      if (type === REP_ACK) return replies;
      if ((type & REP_ERROR_BIT) !== 0) throw new NbdRefused(code, type & 0x7fffffff, body.toString());
      replies.push({ type, body });
    }
  };

  await option(OPT_STRUCTURED_REPLY, Buffer.alloc(0));
  // The default export: nbdkit serves one disk.
  const name = withLength('');
  const contexts = await option(OPT_SET_META_CONTEXT, Buffer.concat([name, u32(1), withLength('base:allocation')]));
  const info = await option(OPT_GO, Buffer.concat([name, Buffer.alloc(2)]));
  const size = info.find(({ type, body }) => type === REP_INFO && body.readUInt16BE(0) === 0);
  if (size === undefined) throw new Error('the NBD server did not state a size');
  const context = contexts.find(({ type }) => type === REP_META_CONTEXT);
  return {
    sizeBytes: Number(size.body.readBigUInt64BE(2)),
    ...(context === undefined ? {} : { contextId: context.body.readUInt32BE(0) }),
  };
}

function u32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32BE(value);
  return buffer;
}

function withLength(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([u32(bytes.length), bytes]);
}
