/**
 * Owns nbdkit processes, what their stderr means, and the NBD client. Refuses to know snapshots, plans or targets.
 *
 *   openVddk(options), openHttps(options) -> DiskSource        sweepLeftovers(runDir) at worker start
 *   connectDisk(source, {subject}) -> NbdClient                the reader that `copyPass` wants; failures are classified
 *   NbdClient: read, mapExtents, close
 */
export type * from './types.js';
