/**
 * Owns the two raw HTTP transfers of XAPI: chunked import and raw export. Everything else of XAPI lives one folder up.
 *
 *   openSegmentPut(options) -> SegmentWriter      exportRaw(options) -> AsyncIterable<Buffer>
 */
export type * from './types.js';
export { exportRaw } from './export-raw.js';
export { openSegmentPut } from './segment-put.js';
