import { setTimeout as sleep } from 'node:timers/promises';
import { HEADROOM_BYTES, TAILROOM_BYTES, type BlockReader } from '../shared/blocks.js';
import { failure, FAILURE_TYPES, failureTypeOf } from '../shared/errors.js';
import type { Range, ReconnectPolicy } from './types.js';
import { findUnreadable, merged, unreadableFailure } from './unreadable.js';

const LONGEST_DELAY_MS = 30_000;

/**
 * A source that survives lost connections: a failed read is repeated on a new one. Only reads are affected: a chunk is sent
 * once all of it has been read, so a PUT that waits meanwhile goes on unharmed.
 *
 * Bounded twice: attempts to connect in a row, and attempts to read one block (a bad sector kills every connection). A block
 * that does not come is read in pieces, so that its bad sectors have a name. Failures that another attempt cannot help, such as a refused login, end it at once: accounts get locked.
 */
export class ReconnectingReader {
  readonly #open: () => Promise<BlockReader>;
  readonly #signal: AbortSignal;
  #attempts: number;
  readonly #firstDelayMs: number;
  #reader: Promise<BlockReader> | undefined;
  /** The same, once a read has ended well: the usual read needs no promise of ours. */
  #connected: BlockReader | undefined;
  #failuresInARow = 0;
  readonly #unreadable: Range[] = [];
  #sectorsUnreadable: Error | undefined;
  #closed = false;
  /** A block that is read in pieces: other reads wait, for each failure ends the connection they all use. */
  #search: Promise<unknown> = Promise.resolve();

  constructor(open: () => Promise<BlockReader>, signal: AbortSignal, policy: ReconnectPolicy = {}) {
    this.#open = open;
    this.#signal = signal;
    this.#attempts = policy.attempts ?? 6;
    this.#firstDelayMs = policy.firstDelayMs ?? 500;
  }

  /**
   * @throws SourceReadFailed (retryable) when all attempts failed, SectorsUnreadable when only some sectors do, or the failure
   * that no attempt can help.
   */
  read(offset: number, length: number, buffer: Buffer): Promise<unknown> {
    const reader = this.#connected;
    if (reader === undefined) return this.#readAgain(offset, length, buffer);
    return reader.read(offset, length, buffer).then(
      () => (this.#failuresInARow = 0),
      (error: unknown) => this.#readAgain(offset, length, buffer, { reader, error }),
    );
  }

  async #readAgain(
    offset: number,
    length: number,
    buffer: Buffer,
    failed?: { reader: BlockReader; error: unknown },
  ): Promise<void> {
    for (let attempt = failed === undefined ? 1 : 2; ; attempt++) {
      if (failed !== undefined) {
        this.#throwIfPointless(failed.error);
        const isLast = attempt > this.#attempts;
        await this.#drop(failed.reader, isLast ? 0 : undefined);
        if (isLast) {
          const { error } = failed;
          const searching = this.#search.then(() => this.#readInPieces({ offset, length }, buffer, error));
          this.#search = searching.catch(() => undefined);
          return searching;
        }
      }
      await this.#search;
      const reader = await (this.#reader ??= this.#connect());
      try {
        await reader.read(offset, length, buffer);
        this.#connected = reader;
        this.#failuresInARow = 0;
        return;
      } catch (error) {
        failed = { reader, error };
      }
    }
  }

  async #readInPieces(block: Range, buffer: Buffer, why: unknown): Promise<void> {
    let complaint: BlockReader['complaint'];
    let subject = 'The source disk';
    const tryRead = async ({ offset, length }: Range, into?: Buffer): Promise<boolean> => {
      const reader = await (this.#reader ??= this.#connect());
      subject = reader.subject ?? subject;
      const piece = Buffer.allocUnsafe(HEADROOM_BYTES + length + TAILROOM_BYTES);
      try {
        await reader.read(offset, length, piece);
        if (into) piece.copy(into, HEADROOM_BYTES + offset - block.offset, HEADROOM_BYTES, HEADROOM_BYTES + length);
        return true;
      } catch (error) {
        this.#throwIfPointless(error);
        complaint = reader.complaint;
        await this.#drop(reader, 0);
        return false;
      }
    };
    // Where nothing can be read it is not the sectors.
    const { sizeBytes } = await (this.#reader ??= this.#connect());
    const elsewhere = block.offset > 0 ? 0 : block.length;
    if (elsewhere < sizeBytes && !(await tryRead({ offset: elsewhere, length: 512 })))
      throw this.#givenUp(`reading ${block.length} bytes at byte ${block.offset}`, why);
    const unreadable = await findUnreadable((part) => tryRead(part, buffer), block);
    if (unreadable.length === 0) return;
    this.#unreadable.push(...unreadable);
    // Where some are bad others are too: the next block that fails is looked at closely at once.
    this.#attempts = Math.min(this.#attempts, 2);
    this.#sectorsUnreadable = unreadableFailure(subject, merged(this.#unreadable), await complaint?.(), why);
    throw this.#sectorsUnreadable;
  }

  /** Names all bad sectors that were met so far. */
  get sectorsUnreadable(): Error | undefined {
    return this.#sectorsUnreadable;
  }

  async close(): Promise<void> {
    this.#closed = true;
    const reader = await this.#reader?.catch(() => undefined);
    await reader?.close();
  }

  /** Of all the reads that failed with a connection, only the first drops it. */
  async #drop(lost: BlockReader, failuresInARow = this.#failuresInARow + 1): Promise<void> {
    const current = this.#reader;
    if (current === undefined || (await current.catch(() => undefined)) !== lost || this.#reader !== current) return;
    this.#reader = this.#connected = undefined;
    this.#failuresInARow = failuresInARow;
    this.#reader = (async () => {
      await lost.close();
      return this.#connect();
    })();
    this.#reader.catch(() => undefined);
  }

  async #connect(): Promise<BlockReader> {
    for (let attempt = 1; ; attempt++) {
      if (this.#failuresInARow > 0) {
        const delayMs = Math.min(this.#firstDelayMs * 2 ** (this.#failuresInARow - 1), LONGEST_DELAY_MS);
        await sleep(delayMs, undefined, { signal: this.#signal }).catch(() => undefined);
      }
      this.#signal.throwIfAborted();
      if (this.#closed) throw failure('SourceReadFailed', { what: 'The source was closed while it reconnected.' });
      try {
        return await this.#open();
      } catch (error) {
        this.#throwIfPointless(error);
        this.#failuresInARow++;
        if (attempt >= this.#attempts) throw this.#givenUp('connecting', error);
      }
    }
  }

  #throwIfPointless(error: unknown): void {
    this.#signal.throwIfAborted();
    const type = failureTypeOf(error);
    const retryable =
      type === undefined || !(type in FAILURE_TYPES) || FAILURE_TYPES[type as keyof typeof FAILURE_TYPES].retryable;
    if (!retryable || type === 'SourceReadFailed') throw error;
  }

  #givenUp(doing: string, error: unknown): Error {
    return failure(
      'SourceReadFailed',
      {
        what: `The source disk could not be read: ${doing} failed ${this.#attempts} times.`,
        why: error instanceof Error ? error.message : String(error),
        next: 'the pass is tried again from its checkpoint; if it stays, check the ESXi host and its datastore.',
      },
      undefined,
      error,
    );
  }
}
