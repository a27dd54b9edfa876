import { hostileNbd } from './hostile-nbd.js';
import { hostileNbdOverTls } from './hostile-nbd-tls.js';
import { hostileXapi } from './hostile-xapi.js';

/** What became of one case. */
export interface Outcome {
  /** The peer got as far as being asked for data. */
  opened: boolean;
  /** Requests, or transfers, that came out right, and that ended in a typed error. */
  right: number;
  refused: number;
}

export type PeerName = 'nbd' | 'nbd-tls' | 'xapi';

/** Each takes a seed; a rejection is a finding. */
export const PEERS: Record<PeerName, (seed: number) => Promise<Outcome>> = {
  nbd: hostileNbd,
  'nbd-tls': hostileNbdOverTls,
  xapi: hostileXapi,
};
