import type { TLSSocket } from 'node:tls';
import { HEADROOM_BYTES, type SegmentWriter } from '../../shared/blocks.js';
import { importFailure, safely } from './outcome.js';
import { Patience } from './patience.js';
import { openTransfer } from './raw-http.js';
import { SendWaits } from './send-waits.js';
import type { VdiTransferOptions } from './types.js';

const END_MARKER = Buffer.alloc(HEADROOM_BYTES);
const IDLE_MS = 15 * 60_000;
const KEPT_BODY = 4096;
/** A PUT that was faster holds nothing up. */
const WORTH_A_LOOK_MS = 500;

/**
 * Opens `PUT /import_raw_vdi?chunked` and waits for its early 200.
 *
 * Accepted only if all three hold: our end marker was flushed, the body was empty and ended cleanly, and the task says
 * success. The status line says nothing, and the task alone can lie (reference: XAPI's vhd-tool, chunked receiver).
 *
 * @throws ImportFailed, ConnectionFailed, CertificateChanged; nothing has been written then.
 */
export async function openSegmentPut(options: VdiTransferOptions): Promise<SegmentWriter> {
  const { socket } = await openTransfer('PUT', '/import_raw_vdi', options);
  return new SegmentPut(socket, options);
}

class SegmentPut implements SegmentWriter {
  readonly #socket: TLSSocket;
  readonly #options: VdiTransferOptions;
  readonly #patience: Patience;
  readonly #waits: SendWaits;
  readonly #openedAt = performance.now();
  #body = Buffer.alloc(0);
  #broken: Error | undefined;
  #endSeen = false;
  #isOver = false;
  /** Writes that have not left: told when it is over. A promise each would pile up over a PUT of many chunks. */
  readonly #waiting = new Set<() => void>();
  /** Resolves when no further byte can come from the other side. */
  readonly #over: Promise<void>;
  #failure: Promise<Error> | undefined;

  constructor(socket: TLSSocket, options: VdiTransferOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#patience = new Patience(options.idleTimeoutMs ?? IDLE_MS, (error) => socket.destroy(error));
    this.#waits = new SendWaits(socket);
    socket.on('data', (data: Buffer) => {
      // A successful import has an empty body; XAPI writes the reason of a failure here.
      if (this.#body.length < KEPT_BODY) this.#body = Buffer.concat([this.#body, data]);
    });
    this.#over = new Promise((resolve) => {
      const over = () => {
        this.#isOver = true;
        this.#patience.stop();
        this.#waits.stop();
        // An answer before our end marker can only be a failure. But one to it may be seen before Node says that the marker
        // has left: it says so after the poll in which both happen.
        setImmediate(() => this.#waiting.forEach((fail) => fail()));
        resolve();
      };
      socket.on('end', () => {
        this.#endSeen = true;
        over();
      });
      socket.on('error', (error) => {
        this.#broken ??= error;
        over();
      });
      socket.on('close', over);
    });
    socket.resume();
  }

  write(offset: number, payload: Buffer): Promise<void> {
    const frame = Buffer.from(payload.buffer, payload.byteOffset - HEADROOM_BYTES, HEADROOM_BYTES + payload.length);
    frame.writeBigUInt64LE(BigInt(offset), 0);
    frame.writeUInt32LE(payload.length, 8);
    return this.#send(frame);
  }

  async finish(): Promise<void> {
    const options = this.#options;
    if (performance.now() - this.#openedAt > WORTH_A_LOOK_MS) await this.#waits.look();
    await this.#send(END_MARKER);
    // No half-close: the server closes once everything is on disk and the disk is detached.
    this.#patience.waits();
    await this.#over;
    const outcome = await safely(options.taskOutcome);
    const clean = this.#endSeen && this.#broken === undefined && this.#body.length === 0;
    this.#socket.destroy();
    if (!clean || outcome.status !== 'success') throw importFailure(options, outcome, this.#body, this.#broken);
  }

  linkShare(): number | undefined {
    return this.#waits.linkShare;
  }

  linkBytesPerSecond(): number | undefined {
    return this.#waits.linkBytesPerSecond;
  }

  abort(): void {
    this.#broken ??= new Error('the import was cut off by this side');
    this.#socket.destroy();
  }

  #send(bytes: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      const fail = () => void this.#whyFailed().then(reject, reject);
      if (this.#isOver || this.#broken !== undefined) return fail();
      this.#patience.waits();
      this.#waiting.add(fail);
      this.#socket.write(bytes, (error) => {
        this.#waiting.delete(fail);
        if (error) return fail();
        this.#patience.moved();
        if (this.#waiting.size > 0) this.#patience.waits();
        resolve();
      });
    });
  }

  #whyFailed(): Promise<Error> {
    this.#socket.destroy();
    const cause = this.#broken ?? new Error('the server ended the import early');
    return (this.#failure ??= safely(this.#options.taskOutcome).then((outcome) =>
      importFailure(this.#options, outcome, this.#body, cause),
    ));
  }
}
