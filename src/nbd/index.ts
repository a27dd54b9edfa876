/**
 * Owns nbdkit processes, what their stderr means, and the NBD client. Refuses to know snapshots, plans or targets.
 *
 *   openVddk(options), openHttps(options) -> DiskSource        sweepLeftovers(runDir) at worker start
 *   connectDisk(source, {subject}) -> NbdClient                the reader that `copyPass` wants; failures are classified
 *   connectExport(remote, {subject}) -> NbdClient              the same over TLS, from a server in the network
 *   NbdClient: read, mapExtents, close
 *   probeTools(options) -> TransportProbe, toolFindings      which transports this host can use, and why not
 *   new DiskOpener(() => openVddk(...), {subject}).connect()   the same again and again, with a new nbdkit when it is needed
 */
export { connectDisk } from './connect-disk.js';
export { connectExport } from './connect-export.js';
export { DiskOpener } from './disk-opener.js';
export { sweepLeftovers } from './leftovers.js';
export { NbdClient } from './nbd-client.js';
export { openHttps } from './open-https.js';
export { openVddk } from './open-vddk.js';
export { FLOORS, isOlder, probeTools, type TransportProbe } from './probe.js';
export { startNbdkit } from './start-nbdkit.js';
export { toolFindings } from './tool-findings.js';
export type * from './types.js';
