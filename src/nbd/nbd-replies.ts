import { HEADROOM_BYTES, TAILROOM_BYTES } from '../shared/blocks.js';

const STRUCTURED_MAGIC = 0x668e33ef;
const SIMPLE_MAGIC = 0x67446698;
const FLAG_DONE = 1;
const CHUNK_NONE = 0;
const CHUNK_DATA = 1;
const CHUNK_HOLE = 2;
const CHUNK_STATUS = 5;
const CHUNK_ERROR_BIT = 0x8000;
const STRUCTURED_HEADER_BYTES = 20;
const SIMPLE_HEADER_BYTES = 16;
/** Read at a time while no payload is awaited: a hundred replies to BLOCK_STATUS. */
const SMALL_BYTES = 4096;
/** Block status of 1 GiB in steps of 512 bytes would still fit. */
const LONGEST_SMALL_REPLY = 20 * 1024 * 1024;
const ERRNO: Record<number, string> = { 5: 'EIO', 12: 'ENOMEM', 22: 'EINVAL', 108: 'ESHUTDOWN' };

/** A request whose reply is awaited. */
export interface NbdRequest {
  offset: number;
  length: number;
  /** Of a read: filled from `HEADROOM_BYTES` on. */
  buffer?: Buffer;
  bytesGot: number;
  /** Parts of a read that came in pieces, to notice one that came twice. */
  parts?: { start: number; end: number }[];
  extents: number[];
  error?: Error;
  resolve: (extents: number[]) => void;
  reject: (error: Error) => void;
}

export interface ReplyOwner {
  find(id: number): NbdRequest | undefined;
  /** The last part of a reply is in. */
  finished(id: number, request: NbdRequest): void;
  /** What came makes no sense; nothing after it can be understood. */
  broken(why: string): void;
}

/**
 * Reads replies, in any order. A read's data goes from the socket into the caller's buffer without a copy, all but what
 * came together with its header; and the header that follows it comes in the same read of the socket.
 *
 * Nothing is believed: every part has to belong to a request, to add something to it, and to say so without contradiction.
 * So a server that talks nonsense can neither keep a request waiting for ever nor put a byte where it does not belong.
 */
export class ReplyReader {
  readonly #owner: ReplyOwner;
  readonly #small = Buffer.alloc(SMALL_BYTES);
  #headerBytes = STRUCTURED_HEADER_BYTES;
  #onHeader = () => this.#onStructured();
  /** Bytes go here; `#complete` is called when `#needed` of them are in. What comes beyond is the next reply. */
  #target: Buffer = this.#small;
  #needed = STRUCTURED_HEADER_BYTES;
  #filled = 0;
  #complete = () => this.#onHeader();

  constructor(owner: ReplyOwner) {
    this.#owner = owner;
  }

  /** Before the first request, for a server without structured replies. */
  useSimpleReplies(): void {
    this.#headerBytes = SIMPLE_HEADER_BYTES;
    this.#onHeader = () => this.#onSimple();
    this.#next();
  }

  /** Where the next bytes go. */
  space(): Buffer {
    return this.#target.subarray(this.#filled);
  }

  /** So many bytes have been put into `space()`. */
  received(length: number): void {
    this.#filled += length;
    if (this.#filled < this.#needed) return;
    let beyond = this.#target.subarray(this.#needed, this.#filled);
    do {
      this.#complete();
      // Never more than is needed: so what is left over stays in one piece, and ahead of a header copied to the front.
      this.#filled = beyond.copy(this.#target, 0, 0, this.#needed);
      beyond = beyond.subarray(this.#filled);
    } while (this.#filled >= this.#needed);
  }

  /** Nothing that comes now is looked at. */
  #broken(why: string): void {
    this.#needed = Number.MAX_SAFE_INTEGER;
    this.#owner.broken(why);
  }

  #next(): void {
    this.#expect(this.#small, this.#headerBytes, this.#onHeader);
  }

  /** @param target May have room for more than is needed. */
  #expect(target: Buffer, needed: number, complete: () => void): void {
    this.#target = target;
    this.#needed = needed;
    this.#filled = 0;
    this.#complete = complete;
  }

  /** The request that the header names, with its 64-bit cookie at `at`; ours fit the lower half. */
  #requestAt(at: number, magic: number): { id: number; request: NbdRequest } | undefined {
    const id = this.#small.readUInt32BE(at + 4);
    const request = this.#owner.find(id);
    if (this.#small.readUInt32BE(0) === magic && this.#small.readUInt32BE(at) === 0 && request !== undefined) {
      return { id, request };
    }
    this.#broken('the NBD server sent something that is no reply to us');
    return undefined;
  }

  #onSimple(): void {
    const found = this.#requestAt(8, SIMPLE_MAGIC);
    if (found === undefined) return;
    const { id, request } = found;
    const code = this.#small.readUInt32BE(4);
    const done = () => {
      this.#owner.finished(id, request);
      this.#next();
    };
    if (code !== 0) {
      request.error = new Error(ERRNO[code] ?? `error ${code}`);
      return done();
    }
    const { buffer, length } = request;
    if (buffer === undefined) return this.#broken('the NBD server answered what it cannot know');
    request.bytesGot = length;
    this.#expect(buffer.subarray(HEADROOM_BYTES, HEADROOM_BYTES + length + TAILROOM_BYTES), length, done);
  }

  #onStructured(): void {
    const found = this.#requestAt(8, STRUCTURED_MAGIC);
    if (found === undefined) return;
    const { id, request } = found;
    const isLast = (this.#small.readUInt16BE(4) & FLAG_DONE) !== 0;
    const type = this.#small.readUInt16BE(6);
    const length = this.#small.readUInt32BE(16);
    const done = () => {
      if (isLast) this.#owner.finished(id, request);
      this.#next();
    };
    if (type === CHUNK_DATA && request.buffer !== undefined) return this.#onData(request, request.buffer, length, done);
    if (length > LONGEST_SMALL_REPLY) return this.#broken(`the NBD server sent a reply of ${length} bytes`);
    const body = Buffer.allocUnsafe(length);
    this.#expect(body, length, () => {
      if (this.#takeSmall(request, type, body, isLast)) return done();
      this.#broken(`the NBD server sent a chunk of type ${type} and ${length} bytes that makes no sense`);
    });
  }

  /** @returns False for a part that contradicts the protocol, or adds nothing: a server could send such for ever. */
  #takeSmall(request: NbdRequest, type: number, body: Buffer, isLast: boolean): boolean {
    const { length } = body;
    if (type === CHUNK_NONE) return isLast && length === 0;
    if ((type & CHUNK_ERROR_BIT) !== 0) {
      if (length < 6 || request.error !== undefined) return false;
      const code = body.readUInt32BE(0);
      const text = body.toString('utf8', 6, 6 + body.readUInt16BE(4));
      request.error = new Error(`${ERRNO[code] ?? `error ${code}`}${text === '' ? '' : ` (${text})`}`);
      return true;
    }
    if (type === CHUNK_HOLE && length === 12) {
      const place = this.#payloadAt(request, body.readBigUInt64BE(0), body.readUInt32BE(8));
      place?.fill(0);
      return place !== undefined;
    }
    // One descriptor at least, and one part in all: more would be a second map of the same place.
    if (type !== CHUNK_STATUS || request.buffer !== undefined || request.extents.length > 0) return false;
    if (length < 12 || length % 8 !== 4) return false;
    for (let at = 4; at < length; at += 8) request.extents.push(body.readUInt32BE(at), body.readUInt32BE(at + 4));
    return true;
  }

  #onData(request: NbdRequest, buffer: Buffer, length: number, done: () => void): void {
    if (length - 8 === request.length && request.bytesGot === 0) {
      // The usual case: one reply holds all. Its 8-byte offset goes into the headroom, saving a read of its own.
      const place = buffer.subarray(HEADROOM_BYTES - 8, HEADROOM_BYTES + request.length + TAILROOM_BYTES);
      return this.#expect(place, 8 + request.length, () => {
        if (buffer.readBigUInt64BE(HEADROOM_BYTES - 8) !== BigInt(request.offset)) return this.#unasked();
        request.bytesGot = request.length;
        done();
      });
    }
    const position = Buffer.allocUnsafe(8);
    this.#expect(position, 8, () => {
      const place = this.#payloadAt(request, position.readBigUInt64BE(0), length - 8);
      if (place === undefined) this.#unasked();
      else this.#expect(place, place.length, done);
    });
  }

  #unasked(): void {
    this.#broken('the NBD server sent data that nobody asked for');
  }

  /** Where a part of a read goes; undefined when it lies outside, is empty, or has come before. */
  #payloadAt(request: NbdRequest, offset: bigint, length: number): Buffer | undefined {
    const start = Number(offset - BigInt(request.offset));
    const end = start + length;
    if (request.buffer === undefined || start < 0 || length <= 0 || end > request.length) return undefined;
    const parts = (request.parts ??= []);
    if (request.bytesGot + length > request.length) return undefined;
    // A peer that sends crumbs would make the search below long.
    if (parts.length > request.length / 512) return undefined;
    if (parts.some((part) => start < part.end && part.start < end)) return undefined;
    const before = parts.at(-1);
    if (before?.end === start) before.end = end;
    else parts.push({ start, end });
    request.bytesGot += length;
    return request.buffer.subarray(HEADROOM_BYTES + start, HEADROOM_BYTES + end);
  }
}
