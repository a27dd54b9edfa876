const FRESH_MS = 120_000;
/** Transfers that use this much of what the network carries are held up by the network. */
const FULL = 0.7;

/** The way to one vCenter, as this worker's transfers share it. */
interface Link {
  /** Bytes per second that it was seen to carry. */
  carries: number | undefined;
  probedAt: number;
  rates: Map<object, number>;
}

/**
 * What the network between this host and each vCenter carries, by a short probe every other minute while something moves, beside what the
 * transfers of this worker use of it: so a slow network is told from a slow server.
 */
export class SourceLinks {
  readonly #links = new Map<string, Link>();

  /** @param probe Bytes per second; undefined where it cannot be told, and then nothing is told here either. */
  join(vcenter: string, probe: () => Promise<number | undefined>): LinkUser {
    const link = this.#links.get(vcenter) ?? { carries: undefined, probedAt: -Infinity, rates: new Map() };
    this.#links.set(vcenter, link);
    const look = () => {
      const now = performance.now();
      if (now - link.probedAt < FRESH_MS) return;
      link.probedAt = now;
      const before = used(link);
      probe()
        // What the transfers moved all the while was carried as well.
        .then((rate) => (link.carries = rate === undefined ? undefined : rate + Math.min(before, used(link))))
        .catch(() => undefined);
    };
    look();
    const me = {};
    return {
      moves: (bytesPerSecond) => void link.rates.set(me, bytesPerSecond),
      carries: () => link.carries,
      linkShare() {
        look();
        return link.carries === undefined ? undefined : used(link) >= FULL * link.carries ? 1 : 0;
      },
      leave: () => void link.rates.delete(me),
    };
  }
}

export interface LinkUser {
  moves(bytesPerSecond: number): void;
  /** Bytes per second, as far as it is known. */
  carries(): number | undefined;
  /** Whether waiting for the source is waiting for the network: 1, 0, or not known. */
  linkShare(): number | undefined;
  leave(): void;
}

function used({ rates }: Link): number {
  return [...rates.values()].reduce((sum, rate) => sum + rate, 0);
}
