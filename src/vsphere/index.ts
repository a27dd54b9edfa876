/**
 * Owns the control side of vSphere: one SOAP session per endpoint, inventory, snapshots, change tracking, power, marks.
 * vSphere's own field names stop here. It refuses to own data (`nbd` reads disks), waiting for people, retries and
 * order of steps (`workflows`), and heartbeats (activities pass `onProgress`).
 */
export { createVsphere, type Vsphere } from './vsphere.js';
export { findSourceProblems } from './eligibility.js';
export { isOwnedBy } from './snapshots.js';
export type * from './types.js';
