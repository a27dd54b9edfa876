import type { FileHandle } from 'node:fs/promises';

// The receiver of `/import_raw_vdi`, to the byte as vhd-tool's: strictly serial, one piece buffer
// reused for the whole stream, writes at the given offsets only, and no care for what a cut stream leaves in the buffer.

export const PIECE_BYTES = 2 * 1024 * 1024;
const SECTOR_BYTES = 512;

/** The receiver gave up (exit code 125 of the real one). The reason is never told to the client. */
export class ReceiverFailure extends Error {}

/** Where the bytes come from. Fewer bytes than asked for mean the end of the stream. */
export interface ByteSource {
  readInto(target: Buffer, length: number): Promise<number>;
}

interface BlockDeviceOptions {
  /** Told of every piece when it is in the file. */
  onWrite: (bytes: number) => void;
  /** May change the bytes on their way; for tests of the read-back. */
  spoil: (bytes: Buffer, offset: number) => void;
  /** First byte that finds no room; for tests of a full SR. */
  fullFrom: number | undefined;
  writeDelayMs: number | undefined;
}

/** A block device made of a regular file: it has an end, and takes whole sectors only, as with O_DIRECT. */
export class BlockDevice {
  readonly sizeBytes: number;
  /** Set when the device was taken away: every later write fails. */
  isRevoked = false;
  readonly #file: FileHandle;
  readonly #onWrite: (bytes: number) => void;
  readonly #fullFrom: number;
  readonly #writeDelayMs: number;
  readonly #spoil: (bytes: Buffer, offset: number) => void;

  constructor(file: FileHandle, sizeBytes: number, options: BlockDeviceOptions) {
    this.#file = file;
    this.sizeBytes = sizeBytes;
    this.#onWrite = options.onWrite;
    this.#fullFrom = options.fullFrom ?? Infinity;
    this.#writeDelayMs = options.writeDelayMs ?? 0;
    this.#spoil = options.spoil;
  }

  /** @throws ReceiverFailure as the kernel would: what lies inside the device is written before ENOSPC. */
  async write(bytes: Buffer, offset: bigint): Promise<void> {
    if (offset > BigInt(this.sizeBytes)) throw new ReceiverFailure(`EINVAL: seek to ${offset}`);
    const start = Number(offset);
    if (start % SECTOR_BYTES !== 0 || bytes.length % SECTOR_BYTES !== 0) {
      throw new ReceiverFailure(`EINVAL: ${bytes.length} bytes at ${start} are not whole sectors`);
    }
    if (this.#writeDelayMs > 0) await new Promise((resolve) => setTimeout(resolve, this.#writeDelayMs));
    if (this.isRevoked) throw new ReceiverFailure('EIO: the device is gone');
    this.#spoil(bytes, start);
    const room = Math.max(0, Math.min(bytes.length, this.sizeBytes - start, this.#fullFrom - start));
    for (let done = 0; done < room;) {
      const { bytesWritten } = await this.#file.write(bytes, done, room - done, start + done);
      done += bytesWritten;
      this.#onWrite(bytesWritten);
    }
    if (room < bytes.length) throw new ReceiverFailure(`ENOSPC: at ${start + room}`);
  }

  /** Reads up to a sector's end, for the odd tail of a plain raw stream. */
  async read(target: Buffer, offset: number): Promise<void> {
    await this.#file.read(target, 0, target.length, offset);
  }

  async sync(): Promise<void> {
    await this.#file.datasync();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

/** Reads `length` bytes; a stream that ends after at least one byte passes for complete. That is the flaw to keep. */
async function complete(source: ByteSource, target: Buffer, length: number): Promise<void> {
  if (length > 0 && (await source.readInto(target, length)) === 0) throw new ReceiverFailure('End_of_file');
}

/**
 * Receives `{u64 offset, u32 length, bytes}` until twelve zero bytes.
 *
 * @param onChunk Told of every header before its data is read.
 * @throws ReceiverFailure
 */
export async function receiveChunked(
  source: ByteSource,
  device: BlockDevice,
  onChunk: (chunk: { offset: number; length: number }) => void,
): Promise<void> {
  const header = Buffer.alloc(12);
  const piece = Buffer.alloc(PIECE_BYTES);
  for (;;) {
    // A header cut short keeps the missing bytes of the one before: twelve zeroes by accident are a false success.
    await complete(source, header, header.length);
    const offset = header.readBigUInt64LE(0);
    const length = header.readInt32LE(8);
    if (offset === 0n && length === 0) return device.sync();
    if (length < 0) throw new ReceiverFailure(`length ${length}`);
    onChunk({ offset: Number(offset), length });
    let done = 0;
    do {
      const bytes = piece.subarray(0, Math.min(PIECE_BYTES, length - done));
      await complete(source, piece, bytes.length);
      await device.write(bytes, offset + BigInt(done));
      done += bytes.length;
    } while (done < length);
  }
}

/**
 * Receives a plain raw stream: every byte from offset 0, zeroes included.
 * A stream cut inside its last piece is a success with a stale tail, as on the real one.
 *
 * @param lengthBytes Content-Length, or undefined for the device's size.
 * @throws ReceiverFailure
 */
export async function receiveRaw(source: ByteSource, device: BlockDevice, lengthBytes?: number): Promise<void> {
  const total = lengthBytes ?? device.sizeBytes;
  if (total === 0) throw new ReceiverFailure('Non-zero size required');
  const piece = Buffer.alloc(PIECE_BYTES);
  for (let done = 0; done < total;) {
    const length = Math.min(PIECE_BYTES, total - done);
    await complete(source, piece, length);
    const odd = length % SECTOR_BYTES;
    const whole = odd === 0 ? length : length - odd + SECTOR_BYTES;
    if (odd !== 0) await device.read(piece.subarray(length, whole), done + length);
    await device.write(piece.subarray(0, whole), BigInt(done));
    done += length;
  }
  await device.sync();
}
