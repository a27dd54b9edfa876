import type { Socket } from 'node:net';

const OPTION_MAGIC = 0x49484156454f5054n;
const REPLY_MAGIC = 0x3e889045565a9n;
const FLAG_FIXED_NEWSTYLE = 1;
const FLAG_NO_ZEROES = 2;
const OPT_EXPORT_NAME = 1;
const OPT_STARTTLS = 5;
const OPT_GO = 7;
const OPT_STRUCTURED_REPLY = 8;
const OPT_SET_META_CONTEXT = 10;
const REP_ACK = 1;
const REP_INFO = 3;
const REP_META_CONTEXT = 4;
const REP_ERROR_BIT = 0x80000000;
const ERR_UNSUPPORTED = 1;
/** An option reply longer than this, or more replies to one option, is no NBD server. */
const LONGEST_REPLY = 65_536;
const MOST_REPLIES = 64;
/** What follows the size and the flags in the answer to EXPORT_NAME, unless both sides leave it out. */
const EXPORT_NAME_ZEROES = 124;

export interface NbdExport {
  sizeBytes: number;
  /** Id of `base:allocation`; absent when the server has no map. */
  contextId?: number;
  /** False: simple replies, as XAPI's server gives them. */
  structured: boolean;
}

/** The server refused an option; nbdkit 1.42 and later put their last error into `text`. */
export class NbdRefused extends Error {
  readonly code: number;
  readonly text: string;
  constructor(option: number, code: number, text: string) {
    super(`the NBD server refused option ${option} (error ${code})${text === '' ? '' : `: ${text}`}`);
    this.code = code;
    this.text = text;
  }
}

/**
 * One connection's fixed newstyle negotiation, in the order greet, perhaps startTls, negotiate.
 *
 * Source: the NBD protocol document, "Handshake"; for what XAPI's server leaves out, xapi-project/nbd: lib/server.ml.
 */
export class NbdHandshake {
  readonly #socket: () => Socket;
  readonly #take: (length: number) => Promise<Buffer>;
  #hasZeroes = true;

  /** @param take Gives exactly that many next bytes, or rejects when the connection ends. */
  constructor(socket: () => Socket, take: (length: number) => Promise<Buffer>) {
    this.#socket = socket;
    this.#take = take;
  }

  async greet(): Promise<void> {
    const greeting = await this.#take(18);
    const flags = greeting.readUInt16BE(16);
    if (greeting.toString('latin1', 0, 16) !== 'NBDMAGICIHAVEOPT' || (flags & FLAG_FIXED_NEWSTYLE) === 0) {
      throw new Error('not a fixed-newstyle NBD server');
    }
    this.#hasZeroes = (flags & FLAG_NO_ZEROES) === 0;
    this.#socket().write(u32(FLAG_FIXED_NEWSTYLE | (flags & FLAG_NO_ZEROES)));
  }

  /** Resolves when the server awaits the TLS handshake. */
  async startTls(): Promise<void> {
    await this.#option(OPT_STARTTLS, Buffer.alloc(0));
  }

  /**
   * Structured replies, `base:allocation`, go; without the first also without the second, without GO by EXPORT_NAME, which
   * a server refuses by closing the connection.
   */
  async negotiate(exportName: string): Promise<NbdExport> {
    const structured = await this.#offers(this.#option(OPT_STRUCTURED_REPLY, Buffer.alloc(0)));
    const name = withLength(exportName);
    const wanted = Buffer.concat([name, u32(1), withLength('base:allocation')]);
    const contexts = structured && (await this.#offers(this.#option(OPT_SET_META_CONTEXT, wanted)));
    const context = (contexts || []).find(({ type }) => type === REP_META_CONTEXT);
    const info = await this.#offers(this.#option(OPT_GO, Buffer.concat([name, Buffer.alloc(2)])));
    return {
      sizeBytes: info === false ? await this.#byName(exportName) : sizeIn(info),
      structured: structured !== false,
      ...(context === undefined ? {} : { contextId: context.body.readUInt32BE(0) }),
    };
  }

  async #byName(exportName: string): Promise<number> {
    this.#sendOption(OPT_EXPORT_NAME, Buffer.from(exportName));
    const answer = await this.#take(10 + (this.#hasZeroes ? EXPORT_NAME_ZEROES : 0));
    return sizeOf(answer.readBigUInt64BE(0));
  }

  async #offers(replies: Promise<OptionReply[]>): Promise<OptionReply[] | false> {
    try {
      return await replies;
    } catch (error) {
      if (error instanceof NbdRefused && error.code === ERR_UNSUPPORTED) return false;
      throw error;
    }
  }

  async #option(code: number, data: Buffer): Promise<OptionReply[]> {
    this.#sendOption(code, data);
    const replies: OptionReply[] = [];
    while (replies.length < MOST_REPLIES) {
      const reply = await this.#take(20);
      const type = reply.readUInt32BE(12);
      const length = reply.readUInt32BE(16);
      if (reply.readBigUInt64BE(0) !== REPLY_MAGIC || reply.readUInt32BE(8) !== code) {
        throw new Error('the NBD server sent something that is no reply to our option');
      }
      if (length > LONGEST_REPLY) throw new Error(`NBD option reply of ${length} bytes`);
      const body = await this.#take(length);
      if (type === REP_ACK) return replies;
      if ((type & REP_ERROR_BIT) !== 0) throw new NbdRefused(code, type & 0x7fffffff, body.toString());
      replies.push({ type, body });
    }
    throw new Error(`the NBD server does not end its replies to option ${code}`);
  }

  #sendOption(code: number, data: Buffer): void {
    const head = Buffer.alloc(16);
    head.writeBigUInt64BE(OPTION_MAGIC, 0);
    head.writeUInt32BE(code, 8);
    head.writeUInt32BE(data.length, 12);
    this.#socket().write(Buffer.concat([head, data]));
  }
}

interface OptionReply {
  type: number;
  body: Buffer;
}

function sizeIn(info: OptionReply[]): number {
  const size = info.find(({ type, body }) => type === REP_INFO && body.length >= 10 && body.readUInt16BE(0) === 0);
  if (size === undefined) throw new Error('the NBD server did not state a size');
  return sizeOf(size.body.readBigUInt64BE(2));
}

function sizeOf(bytes: bigint): number {
  if (bytes > BigInt(Number.MAX_SAFE_INTEGER)) throw new Error(`the NBD server states a size of ${bytes} bytes`);
  return Number(bytes);
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
