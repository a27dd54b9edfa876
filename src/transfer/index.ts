/**
 * Owns passes: which bytes are copied, in which order, in how many PUTs, what is remembered and how it is verified.
 * Knows neither vSphere nor XAPI nor NBD: it moves blocks from a `BlockReader` to a `SegmentSink`.
 *
 *   planFromAreas / planFromMap / planWholeDisk -> Plan
 *   compareDisks(options) -> Range[] where source and target differ
 *   copyPass(options)    -> CopyPassResult; resumes from the checkpoint store
 *   verifyBase(options), verifyDelta(options) -> VerifyResult, or VerificationMismatch: everything, as a stream
 *   verifyRanges(options) -> the same of what was planned and a share of the rest, by range
 */
export * from './types.js';
export { createHasher } from './blake3.js';
export { compareDisks, type Comparison } from './compare.js';
export { copyPass } from './copy-pass.js';
export { planFromAreas, planFromMap, planWholeDisk } from './plan.js';
export { Throttle } from './throttle.js';
export { throttled } from './throttled.js';
export type { Clock } from './throttle.js';
export { verifyBase, verifyDelta } from './verify.js';
export { readBackBy, verifyRanges } from './verify-ranges.js';
