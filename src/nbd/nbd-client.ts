import type { BlockReader } from '../shared/blocks.js';
import { mapExtents } from './map-extents.js';
import { CMD_BLOCK_STATUS, CMD_READ, NbdConnection } from './nbd-connection.js';
import type { NbdExport } from './nbd-handshake.js';
import type { MapExtent, NbdClientOptions } from './types.js';

/**
 * NBD client for one export, on a unix socket or over TLS: many requests in flight, read data straight from the socket
 * into the caller's buffers.
 *
 * After any error reply the connection counts as lost (NbdConnectionLost, retryable): the caller closes it and connects
 * again.
 */
export class NbdClient implements BlockReader {
  readonly sizeBytes: number;
  /** False when the server offers no `base:allocation`: then the map is one run of data. */
  readonly hasMap: boolean;
  readonly subject: string;
  complaint?: () => Promise<string | undefined>;
  readonly #connection: NbdConnection;

  private constructor(connection: NbdConnection, disk: NbdExport, subject = 'the disk') {
    this.#connection = connection;
    this.subject = subject;
    this.sizeBytes = disk.sizeBytes;
    this.hasMap = disk.contextId !== undefined;
  }

  /** @throws NbdRefused when the server does not open the disk; `connectDisk` explains it from nbdkit's stderr. */
  static async connect(options: NbdClientOptions): Promise<NbdClient> {
    const connection = new NbdConnection(options);
    try {
      return new NbdClient(connection, await connection.open(options), options.subject);
    } catch (error) {
      connection.lose('the handshake failed');
      throw error;
    }
  }

  read(offset: number, length: number, buffer: Buffer): Promise<unknown> {
    return this.#connection.request(CMD_READ, offset, length, buffer);
  }

  /** Pairs of length and flags (1 hole, 2 reads as zero) from `offset` on; may cover less than was asked, or more. */
  blockStatus(offset: number, length: number): Promise<number[]> {
    return this.#connection.request(CMD_BLOCK_STATUS, offset, length);
  }

  /** The map of the whole disk: in order, without gaps, equal neighbours merged. */
  mapExtents(): AsyncIterable<MapExtent> {
    return mapExtents(this);
  }

  /** True once a request has failed or the connection broke; closing it ourselves does not count. */
  get lost(): boolean {
    return this.#connection.lost;
  }

  close(): Promise<void> {
    return this.#connection.close();
  }
}
