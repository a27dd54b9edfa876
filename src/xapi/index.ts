/**
 * Owns the target pool: its VMs, disks, snapshots, networks, tasks and the marks we leave on them. XAPI's own field names
 * and references stop here; outside, objects have uuids. It refuses to own order, retries and waiting for people
 * (`workflows`), and which bytes are moved (`transfer`); the raw HTTP transfers are in `upload/`.
 */
export { limitFindings, recommendedMaxima, type TargetLimits } from './limits.js';
export { sizeFinding, spaceFindings, type TargetPlan } from './findings.js';
export { imageFormat, importingName, QCOW2_LIMIT_BYTES, VHD_LIMIT_BYTES } from './target-vm.js';
export { createXapi, type Xapi } from './xapi.js';
export type * from './types.js';
