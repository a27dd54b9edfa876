import { HEADROOM_BYTES } from '../shared/blocks.js';

const STRUCTURED_MAGIC = 0x668e33ef;
const CHUNK_NONE = 0;
const CHUNK_DATA = 1;
const CHUNK_HOLE = 2;
const CHUNK_STATUS = 5;
const CHUNK_ERROR_BIT = 0x8000;
const HEADER_BYTES = 20;
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
 * Reads structured replies, in any order. A reply's 20-byte header is read by itself, so it is always known where the next
 * bytes belong, and read data goes from the socket into the caller's buffer without a copy.
 */
export class ReplyReader {
  readonly #owner: ReplyOwner;
  readonly #header = Buffer.alloc(HEADER_BYTES);
  #target: Buffer = this.#header;
  #filled = 0;
  #complete = () => this.#onHeader();

  constructor(owner: ReplyOwner) {
    this.#owner = owner;
  }

  /** Where the next bytes go. */
  space(): Buffer {
    return this.#target.subarray(this.#filled);
  }

  /** So many bytes have been put into `space()`. */
  received(length: number): void {
    this.#filled += length;
    if (this.#filled === this.#target.length) this.#complete();
  }

  #expect(target: Buffer, complete: () => void): void {
    this.#target = target;
    this.#filled = 0;
    this.#complete = complete;
    if (target.length === 0) complete();
  }

  #onHeader(): void {
    const flags = this.#header.readUInt16BE(4);
    const type = this.#header.readUInt16BE(6);
    const length = this.#header.readUInt32BE(16);
    const id = this.#header.readUInt32BE(12);
    const request = this.#owner.find(id);
    if (this.#header.readUInt32BE(0) !== STRUCTURED_MAGIC || request === undefined) {
      return this.#owner.broken('the NBD server sent something that is no reply to us');
    }
    const done = () => {
      if ((flags & 1) !== 0) this.#owner.finished(id, request);
      this.#expect(this.#header, () => this.#onHeader());
    };
    if (type === CHUNK_DATA && request.buffer !== undefined) return this.#onData(request, request.buffer, length, done);
    if (length > LONGEST_SMALL_REPLY) return this.#owner.broken(`the NBD server sent a reply of ${length} bytes`);
    const body = Buffer.allocUnsafe(length);
    this.#expect(body, () => {
      if (type === CHUNK_HOLE && length === 12) {
        this.#payloadAt(request, Number(body.readBigUInt64BE(0)), body.readUInt32BE(8))?.fill(0);
      } else if (type === CHUNK_STATUS) {
        for (let at = 4; at + 8 <= length; at += 8)
          request.extents.push(body.readUInt32BE(at), body.readUInt32BE(at + 4));
      } else if ((type & CHUNK_ERROR_BIT) !== 0 && length >= 6) {
        const code = body.readUInt32BE(0);
        const text = body.toString('utf8', 6, 6 + body.readUInt16BE(4));
        request.error = new Error(`${ERRNO[code] ?? `error ${code}`}${text === '' ? '' : ` (${text})`}`);
      } else if (type !== CHUNK_NONE) {
        return this.#owner.broken(`the NBD server sent a chunk of type ${type}`);
      }
      done();
    });
  }

  #onData(request: NbdRequest, buffer: Buffer, length: number, done: () => void): void {
    if (length - 8 === request.length) {
      // The usual case: one reply holds all. Its 8-byte offset goes into the headroom, saving a read of its own.
      request.bytesGot = request.length;
      return this.#expect(buffer.subarray(HEADROOM_BYTES - 8, HEADROOM_BYTES + request.length), done);
    }
    const position = Buffer.allocUnsafe(8);
    this.#expect(position, () => {
      const place = this.#payloadAt(request, Number(position.readBigUInt64BE(0)), length - 8);
      if (place !== undefined) this.#expect(place, done);
    });
  }

  #payloadAt(request: NbdRequest, offset: number, length: number): Buffer | undefined {
    const start = offset - request.offset;
    if (request.buffer === undefined || start < 0 || length < 0 || start + length > request.length) {
      this.#owner.broken('the NBD server sent data that nobody asked for');
      return undefined;
    }
    request.bytesGot += length;
    return request.buffer.subarray(HEADROOM_BYTES + start, HEADROOM_BYTES + start + length);
  }
}
