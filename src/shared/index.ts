/** Owns types, failure types and formatting that every room may use. Pure: no I/O, no clock, safe inside workflows. */
export * from './errors.js';
export * from './format.js';
export * from './types.js';
