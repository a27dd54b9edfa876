/**
 * Owns the command line: arguments in, text or JSON out, exit code; and `surefire up`, which runs processes.
 * It refuses to own decisions (workflows), workflow ids and Temporal's errors (`client.ts`), and outside systems (adapters).
 */
export { findTemporal } from './up/find-temporal.js';
export { startTemporal, type RunningTemporal } from './up/start-temporal.js';
