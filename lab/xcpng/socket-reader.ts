import type { Socket } from 'node:net';

/** The peer's connection broke in a way TLS can tell from an end: nothing of the unfinished read may be used. */
export class ConnectionReset extends Error {}

/**
 * Reads exact numbers of bytes from a socket.
 *
 * A connection that goes away, with or without a TLS goodbye, ends the stream: stunnel turns even a TCP reset into an end.
 * Only a broken TLS record counts as reset.
 */
export class SocketReader {
  readonly #socket: Socket;
  #pending: Buffer = Buffer.alloc(0);
  #ended = false;
  #reset = false;
  #wake: (() => void) | undefined;
  /** Bytes handed out so far. */
  takenBytes = 0;

  constructor(socket: Socket) {
    this.#socket = socket;
    const end = (): void => {
      this.#ended = true;
      this.#wake?.();
    };
    socket.on('readable', () => this.#wake?.());
    socket.on('end', end);
    socket.on('close', end);
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#reset ||= error.code?.startsWith('ERR_SSL') === true || error.code === 'EPROTO';
      end();
    });
  }

  /** The next bytes, as many as there are; undefined at the end of the stream. */
  async next(): Promise<Buffer | undefined> {
    if (this.#pending.length > 0) return this.#take(this.#pending.length);
    for (;;) {
      const chunk = this.#socket.read() as Buffer | null;
      if (chunk !== null) {
        this.takenBytes += chunk.length;
        return chunk;
      }
      if (this.#ended) return undefined;
      await new Promise<void>((resolve) => (this.#wake = resolve));
      this.#wake = undefined;
    }
  }

  /**
   * Fills the start of `target`.
   *
   * @returns Bytes read; fewer than `length` only when the stream ended.
   * @throws ConnectionReset
   */
  async readInto(target: Buffer, length: number): Promise<number> {
    let filled = 0;
    while (filled < length) {
      const chunk = await this.next();
      if (chunk === undefined) break;
      const used = Math.min(chunk.length, length - filled);
      chunk.copy(target, filled, 0, used);
      filled += used;
      this.#giveBack(chunk.subarray(used));
    }
    if (filled < length && this.#reset) throw new ConnectionReset();
    return filled;
  }

  /** Text up to and including an empty line, at most `limit` bytes. `undefined`: nothing came; `null`: too long. */
  async readHead(limit: number): Promise<string | undefined | null> {
    let head = Buffer.alloc(0);
    for (;;) {
      const chunk = await this.next();
      if (chunk === undefined) return undefined;
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf('\r\n\r\n');
      if (end >= 0 && end + 4 <= limit) {
        this.#giveBack(head.subarray(end + 4));
        return head.subarray(0, end).toString('latin1');
      }
      if (end >= 0 || head.length > limit) return null;
    }
  }

  #take(length: number): Buffer {
    const taken = this.#pending.subarray(0, length);
    this.#pending = this.#pending.subarray(length);
    this.takenBytes += taken.length;
    return taken;
  }

  #giveBack(rest: Buffer): void {
    this.takenBytes -= rest.length;
    this.#pending = rest;
  }
}
