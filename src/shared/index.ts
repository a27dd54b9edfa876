/** Owns types, failure types and formatting that every room may use. Pure: no I/O, no clock, safe inside workflows. */
export * from './errors.js';
export * from './findings.js';
export * from './format.js';
export type * from './migration.js';
export type * from './migration-input.js';
export type * from './passes.js';
export * from './stages.js';
export * from './time-spent.js';
export * from './types.js';
