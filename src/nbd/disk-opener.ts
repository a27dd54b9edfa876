import { connectDisk } from './connect-disk.js';
import type { NbdClient } from './nbd-client.js';
import type { DiskSource, NbdClientSettings } from './types.js';

/**
 * Gives connections to one disk over and over, as `copyPass` asks for them. An nbdkit that has ended, or whose last
 * connection was lost (perhaps in a VDDK call that hangs), is replaced by a new one.
 */
export class DiskOpener {
  readonly #open: () => Promise<DiskSource>;
  readonly #options: NbdClientSettings & { subject: string };
  #source: DiskSource | undefined;
  #client: NbdClient | undefined;
  #ways: string[] = [];

  constructor(open: () => Promise<DiskSource>, options: NbdClientSettings & { subject: string }) {
    this.#open = open;
    this.#options = options;
  }

  /** The source in use, for the record; undefined before the first `connect`. */
  get source(): DiskSource | undefined {
    return this.#source;
  }

  /** Ways that VDDK took to the disk, all connections together; none over https. */
  get vddkWays(): string[] {
    return [...new Set([...this.#ways, ...(this.#source?.vddkWays?.() ?? [])])];
  }

  /** @throws What `openVddk`, `openHttps` and `connectDisk` throw. */
  async connect(): Promise<NbdClient> {
    if (this.#client?.lost === true || this.#source?.exited() !== undefined) await this.stop();
    this.#source ??= await this.#open();
    try {
      this.#client = await connectDisk(this.#source, this.#options);
      return this.#client;
    } catch (error) {
      // VDDK opens one disk at a time: where that hangs, no other connection to this nbdkit gets further.
      await this.stop();
      throw error;
    }
  }

  async stop(): Promise<void> {
    const source = this.#source;
    this.#ways = this.vddkWays;
    await this.#client?.close();
    this.#source = this.#client = undefined;
    await source?.stop();
  }
}
