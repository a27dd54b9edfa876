/** Owns decisions: the stage sequence, gates, undo. No I/O. Everything exported here becomes a workflow type. */
export { migrateVm } from './migrate-vm.js';
