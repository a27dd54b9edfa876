import type { Socket } from 'node:net';
import { failure } from '../shared/errors.js';
import { NbdHandshake, type NbdExport } from './nbd-handshake.js';
import { ReplyReader, type NbdRequest } from './nbd-replies.js';
import { connectTcp, connectUnix, upgradeToTls, type ByteSink } from './transport.js';
import type { NbdClientOptions } from './types.js';

const REQUEST_MAGIC = 0x25609513;
export const CMD_READ = 0;
const CMD_DISCONNECT = 2;
export const CMD_BLOCK_STATUS = 7;
/** Fewer bytes are no progress until they complete a reply: a server that drips would keep a read waiting for ever. */
const STEP_BYTES = 64 * 1024;

/**
 * One NBD connection after negotiation: requests out, replies in, in any order.
 */
export class NbdConnection {
  readonly #subject: string;
  readonly #requestMs: number;
  readonly #drainMs: number;
  readonly #sink: ByteSink;
  #socket: Socket;
  readonly #closed: Promise<void>;
  readonly #pending = new Map<number, NbdRequest>();
  readonly #replies: ReplyReader;
  #handshake:
    { bytes: Buffer; want: number; resolve: (bytes: Buffer) => void; reject: (error: Error) => void } | undefined;
  #early: Buffer | undefined = Buffer.alloc(0);
  #nextId = 1;
  /** Set as soon as no further request makes sense. */
  #unusable: Error | undefined;
  #dead = false;
  #lost = false;
  #onIdle: (() => void) | undefined;
  #closing: Promise<void> | undefined;
  #progressAt = Date.now();
  #sinceProgress = 0;
  #watch: NodeJS.Timeout | undefined;

  constructor(options: NbdClientOptions) {
    const { subject, timeouts } = options;
    this.#subject = subject ?? 'the disk';
    this.#requestMs = timeouts?.requestMs ?? 180_000;
    this.#drainMs = timeouts?.drainMs ?? 5_000;
    this.#replies = new ReplyReader({
      find: (id) => this.#pending.get(id),
      finished: (id, request) => this.#settle(id, request),
      broken: (why) => this.lose(why),
    });
    this.#sink = { space: () => this.#replies.space(), received: (length) => this.#received(length) };
    this.#socket =
      'remote' in options ? connectTcp(options.remote, this.#sink) : connectUnix(options.socketPath, this.#sink);
    this.#socket.on('error', (error) => this.lose(error.message));
    this.#closed = new Promise((resolve) => {
      this.#socket.once('close', () => {
        this.lose('the NBD server closed the connection');
        resolve();
      });
    });
  }

  /** Negotiates; `connectMs` covers a vSphere login and the opening of the disk. */
  async open(options: NbdClientOptions): Promise<NbdExport> {
    const { timeouts, signal } = options;
    const connectMs = timeouts?.connectMs ?? 120_000;
    const timer = setTimeout(() => this.lose(`no answer to the NBD handshake in ${connectMs} ms`), connectMs);
    const onAbort = () => this.lose('aborted');
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      signal?.throwIfAborted();
      const disk = await this.#negotiate(options);
      this.#expectSilence();
      this.#early = undefined;
      const every = Math.min(5_000, Math.ceil(this.#requestMs / 4));
      this.#watch = setInterval(() => this.#checkProgress(), every).unref();
      return disk;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  async #negotiate(options: NbdClientOptions): Promise<NbdExport> {
    const handshake = new NbdHandshake(
      () => this.#socket,
      (length) => this.#take(length),
    );
    await handshake.greet();
    // The default export: nbdkit serves one disk.
    if (!('remote' in options)) return requireStructured(await handshake.negotiate(''));
    await handshake.startTls();
    // What came in clear text must not be taken for something that came encrypted.
    this.#expectSilence();
    const secure = await upgradeToTls(this.#socket, options.remote, this.#sink);
    secure.on('error', (error) => this.lose(error.message));
    secure.once('close', () => this.lose('the NBD server closed the connection'));
    this.#socket = secure;
    const disk = await handshake.negotiate(options.remote.exportName);
    if (!disk.structured) this.#replies.useSimpleReplies();
    return disk;
  }

  #expectSilence(): void {
    if ((this.#early?.length ?? 0) > 0) throw new Error('the NBD server said more than it was asked');
  }

  request(command: number, offset: number, length: number, buffer?: Buffer): Promise<number[]> {
    if (this.#unusable !== undefined) return Promise.reject(this.#unusable);
    const id = this.#nextId++;
    if (this.#pending.size === 0) this.#progress();
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { offset, length, buffer, bytesGot: 0, extents: [], resolve, reject });
      this.#send(command, id, offset, length);
    });
  }

  /**
   * Lets the requests in flight finish, then says goodbye. nbdkit 1.32 aborts when a client vanishes with reads in flight.
   */
  close(): Promise<void> {
    this.#closing ??= this.#drainAndDisconnect();
    return this.#closing;
  }

  get lost(): boolean {
    return this.#lost;
  }

  /** Ends the connection at once and rejects what is outstanding. */
  lose(why: string): void {
    if (this.#dead) return;
    this.#dead = true;
    this.#lost ||= this.#closing === undefined || this.#pending.size > 0;
    this.#unusable ??= this.#lostFailure(why);
    clearInterval(this.#watch);
    this.#socket.destroy();
    this.#handshake?.reject(new Error(why));
    for (const request of this.#pending.values()) request.reject(this.#unusable);
    this.#pending.clear();
    this.#onIdle?.();
  }

  async #drainAndDisconnect(): Promise<void> {
    this.#unusable ??= this.#lostFailure('the connection was closed by this side');
    if (this.#dead) return this.#closed;
    if (this.#pending.size > 0) {
      const timer = setTimeout(() => this.#onIdle?.(), this.#drainMs);
      await new Promise<void>((resolve) => (this.#onIdle = resolve));
      clearTimeout(timer);
    }
    if (!this.#dead) {
      this.#send(CMD_DISCONNECT, 0, 0, 0);
      this.#socket.end();
      const timer = setTimeout(() => this.lose('closed'), 1_000);
      await this.#closed;
      clearTimeout(timer);
    }
  }

  #lostFailure(why: string): Error {
    return failure('NbdConnectionLost', {
      what: `Lost the NBD connection while reading ${this.#subject}.`,
      why: `${why.charAt(0).toUpperCase()}${why.slice(1)}.`,
      next: 'nothing; the read is tried again on a new connection.',
    });
  }

  #progress(): void {
    this.#progressAt = Date.now();
    this.#sinceProgress = 0;
  }

  #checkProgress(): void {
    if (this.#pending.size > 0 && Date.now() - this.#progressAt > this.#requestMs) {
      this.lose(`no progress for ${this.#requestMs} ms although ${this.#pending.size} requests are outstanding`);
    }
  }

  #send(command: number, id: number, offset: number, length: number): void {
    const bytes = Buffer.allocUnsafe(28);
    bytes.writeUInt32BE(REQUEST_MAGIC, 0);
    bytes.writeUInt32BE(command, 4);
    bytes.writeUInt32BE(0, 8);
    bytes.writeUInt32BE(id, 12);
    bytes.writeBigUInt64BE(BigInt(offset), 16);
    bytes.writeUInt32BE(length, 24);
    // Those of one turn leave together: sixteen of a map, eight of small reads.
    if (!this.#socket.writableCorked) {
      this.#socket.cork();
      process.nextTick(() => this.#socket.uncork());
    }
    this.#socket.write(bytes);
  }

  // During the handshake the reply reader's space only lends its memory. So when it ends, the buffer that Node has already
  // been given for the next read is exactly where the first reply belongs.
  #take(want: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (this.#unusable !== undefined) return reject(this.#unusable);
      this.#handshake = { bytes: this.#early ?? Buffer.alloc(0), want, resolve, reject };
      this.#giveHandshake();
    });
  }

  #giveHandshake(): void {
    const waiting = this.#handshake;
    if (waiting === undefined || waiting.bytes.length < waiting.want) return;
    this.#handshake = undefined;
    this.#early = waiting.bytes.subarray(waiting.want);
    waiting.resolve(waiting.bytes.subarray(0, waiting.want));
  }

  #received(length: number): void {
    this.#sinceProgress += length;
    if (this.#sinceProgress >= STEP_BYTES) this.#progress();
    if (this.#early !== undefined) {
      const piece = this.#replies.space().subarray(0, length);
      if (this.#handshake === undefined) this.#early = Buffer.concat([this.#early, piece]);
      else this.#handshake.bytes = Buffer.concat([this.#handshake.bytes, piece]);
      this.#giveHandshake();
      return;
    }
    try {
      this.#replies.received(length);
    } catch (error) {
      // Whatever the peer made up: it ends this connection, never the process.
      this.lose(`the NBD server's reply makes no sense: ${String(error)}`);
    }
  }

  #settle(id: number, request: NbdRequest): void {
    this.#pending.delete(id);
    this.#progress();
    if (request.error === undefined && request.buffer !== undefined && request.bytesGot !== request.length) {
      request.error = new Error(`only ${request.bytesGot} of ${request.length} bytes came`);
    }
    if (request.error === undefined) request.resolve(request.extents);
    else {
      // A VDDK handle that lost its host answers EIO for ever; a new connection may work. The others in flight may still end well.
      this.#lost = true;
      this.#unusable ??= this.#lostFailure(`request at byte ${request.offset} failed: ${request.error.message}`);
      request.reject(this.#unusable);
    }
    if (this.#pending.size === 0) this.#onIdle?.();
  }
}

/** On a unix socket the kernel writes into a structured reply's header; nbdkit always speaks them. */
function requireStructured(disk: NbdExport): NbdExport {
  if (!disk.structured) throw new Error('the NBD server offers no structured replies');
  return disk;
}
