import type { Database } from './db.js';
import type { Row } from './datamodel.js';
import { flagOf, listOf, mapOf, textOf } from './values.js';

const RUNNING = ['Running'];
const HALTED = ['Halted'];
const LIVE = ['Paused', 'Running'];
const NOT_HALTED = ['Paused', 'Suspended', 'Running'];
const ANY = ['Halted', 'Paused', 'Running', 'Suspended'];

/** Power states in which XAPI lets an operation begin (invariant 14). The order is the one its errors list. */
export const POWER_STATES: Readonly<Record<string, readonly string[]>> = {
  start: HALTED,
  start_on: HALTED,
  provision: HALTED,
  make_into_template: HALTED,
  create_vtpm: HALTED,
  changing_VCPUs: HALTED,
  changing_static_range: HALTED,
  changing_NVRAM: HALTED,
  unpause: ['Paused'],
  pause: RUNNING,
  suspend: RUNNING,
  clean_shutdown: RUNNING,
  clean_reboot: RUNNING,
  pool_migrate: RUNNING,
  hard_reboot: LIVE,
  hard_shutdown: NOT_HALTED,
  shutdown: NOT_HALTED,
  checkpoint: NOT_HALTED,
  resume: ['Suspended'],
  resume_on: ['Suspended'],
  destroy: ['Halted', 'Suspended'],
  export: ['Halted', 'Suspended'],
  clone: HALTED,
  copy: HALTED,
  snapshot: ANY,
  revert: ANY,
  power_state_reset: ANY,
};

const ON_SNAPSHOTS = new Set(['revert', 'clone', 'copy', 'export', 'destroy', 'hard_shutdown', 'metadata_export']);
const ON_TEMPLATES = new Set(['clone', 'copy', 'export', 'destroy', 'provision', 'snapshot', 'changing_VCPUs']);

/** Whether a snapshot or template may be the object of the operation at all. */
export function fitsKind(vm: Row, operation: string): boolean {
  if (flagOf(vm, 'is_a_snapshot')) return ON_SNAPSHOTS.has(operation);
  return operation !== 'revert' && (!flagOf(vm, 'is_a_template') || ON_TEMPLATES.has(operation));
}

function ofVm(vm: Row): string[] {
  const busy = Object.keys(mapOf(vm, 'current_operations')).length > 0;
  if (busy || flagOf(vm, 'is_control_domain')) return [];
  const state = textOf(vm, 'power_state');
  const blocked = mapOf(vm, 'blocked_operations');
  return Object.keys(POWER_STATES).filter(
    (operation) => POWER_STATES[operation]?.includes(state) && !(operation in blocked) && fitsKind(vm, operation),
  );
}

function ofVdi(db: Database, vdi: Row): string[] {
  if (!flagOf(vdi, 'managed') || Object.keys(mapOf(vdi, 'current_operations')).length > 0) return [];
  const attached = listOf(vdi, 'VBDs').some((vbd) => flagOf(db.find('VBD', vbd) ?? {}, 'currently_attached'));
  return attached
    ? ['snapshot', 'clone']
    : ['snapshot', 'clone', 'copy', 'resize', 'destroy', 'forget', 'update', 'enable_cbt', 'generate_config'];
}

/** Computes `allowed_operations` anew after a change (invariant 15). Advice for clients: calls check for themselves. */
export function deriveAllowedOperations(db: Database, cls: string, ref: string): void {
  const row = db.find(cls, ref);
  if (row === undefined) return;
  if (cls === 'VM') row['allowed_operations'] = ofVm(row);
  if (cls === 'VDI') row['allowed_operations'] = ofVdi(db, row);
  if (cls === 'task') row['allowed_operations'] = textOf(row, 'status') === 'pending' ? ['cancel', 'destroy'] : [];
  if (cls === 'VBD') {
    row['allowed_operations'] = flagOf(row, 'currently_attached') ? ['attach', 'unplug', 'unplug_force'] : ['attach'];
    db.touch('VDI', textOf(row, 'VDI'));
  }
}
