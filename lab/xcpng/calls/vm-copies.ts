import { randomUUID } from 'node:crypto';
import { isRef } from '../datapath.js';
import { classSpec, NULL_REF, type Row } from '../datamodel.js';
import { XapiError } from '../errors.js';
import type { Behaviour } from '../methods.js';
import { withVmOperation } from '../operations.js';
import type { Call, Pool } from '../pool.js';
import { forkVdi, removeVdi } from '../storage.js';
import { formatDate, listOf, mapOf, textOf } from '../values.js';
import { derivedMac } from './network.js';
import { createVm } from './vm.js';

/** Snapshot, clone and revert (invariant 17). */
export const vmCopyCalls: Record<string, Behaviour> = {
  'VM.snapshot': (call: Call, ref: string, name: string, ignoredVdis: string[] = []) =>
    withVmOperation(call, ref, 'snapshot', () => snapshotVm(call.pool, ref, name, ignoredVdis)),
  'VM.clone': (call: Call, ref: string, name: string) =>
    withVmOperation(call, ref, 'clone', () => cloneVm(call.pool, ref, name)),
  'VM.revert': (call: Call, snapshot: string) =>
    withVmOperation(call, snapshot, 'revert', async () => {
      const vm = textOf(call.pool.db.get('VM', snapshot), 'snapshot_of');
      if (call.pool.db.find('VM', vm) === undefined) throw new XapiError('VM_REVERT_FAILED', [vm, snapshot]);
      await withVmOperation(call, vm, 'snapshot', () => revertVm(call.pool, vm, snapshot));
    }),
};

/** Fields that say which object it is, what belongs to it, or what it does now: never copied. */
const OWN_FIELDS = [
  ...['uuid', 'VBDs', 'VIFs', 'VTPMs', 'VUSBs', 'VGPUs', 'consoles', 'snapshots', 'children', 'crash_dumps'],
  ...['metrics', 'guest_metrics', 'resident_on', 'domid', 'power_state', 'current_operations', 'allowed_operations'],
  ...['attached_PCIs', 'is_default_template', 'scheduled_to_be_resident_on', 'blocked_operations'],
];

function copiedFields(vm: Row): Row {
  const names = [...classSpec('VM').fields.keys()].filter((name) => !OWN_FIELDS.includes(name));
  return structuredClone(Object.fromEntries(names.map((name) => [name, vm[name] ?? ''])));
}

async function snapshotVm(pool: Pool, ref: string, name: string, ignoredVdis: string[]): Promise<string> {
  const { db } = pool;
  const vm = db.get('VM', ref);
  const date = formatDate();
  const snapshot = createVm(pool, {
    ...copiedFields(vm),
    name_label: name,
    is_a_snapshot: true,
    is_a_template: true,
    snapshot_of: ref,
    snapshot_time: date,
    snapshot_info: {
      'power-state-at-snapshot': textOf(vm, 'power_state'),
      'disk-snapshot-type': 'crash_consistent',
    },
    snapshot_metadata: JSON.stringify({ name_label: vm['name_label'], blocked_operations: vm['blocked_operations'] }),
    power_state: 'Halted',
  });
  try {
    // A guest that writes meanwhile would tear the copies: all its disks are of one moment.
    await pool.machines.whilePaused(ref, () =>
      copyDevices(pool, ref, snapshot, { asSnapshot: true, date, ignoredVdis }),
    );
  } catch (error) {
    discardCopy(pool, snapshot);
    throw error;
  }
  db.set('VM', ref, { parent: snapshot });
  return snapshot;
}

async function cloneVm(pool: Pool, ref: string, name: string): Promise<string> {
  const vm = pool.db.get('VM', ref);
  const fields = copiedFields(vm);
  const clone = createVm(pool, {
    ...fields,
    name_label: name,
    is_a_snapshot: false,
    snapshot_of: NULL_REF,
    snapshot_info: {},
    snapshot_metadata: '',
    parent: NULL_REF,
    other_config: { ...mapOf(fields, 'other_config'), mac_seed: randomUUID() },
  });
  try {
    await copyDevices(pool, ref, clone, { asSnapshot: false, date: formatDate(), ignoredVdis: [] });
  } catch (error) {
    discardCopy(pool, clone);
    throw error;
  }
  return clone;
}

interface CopyOptions {
  asSnapshot: boolean;
  date: string;
  ignoredVdis: string[];
}

/** Copies VBDs with their disks, and VIFs. A CD stays the same medium; a clone's cards get MACs of their own. */
async function copyDevices(pool: Pool, from: string, to: string, options: CopyOptions): Promise<Map<string, string>> {
  const { db } = pool;
  const vdis = new Map<string, string>();
  for (const vbd of listOf(db.get('VM', from), 'VBDs').map((ref) => db.get('VBD', ref))) {
    const vdi = textOf(vbd, 'VDI');
    if (options.ignoredVdis.includes(vdi)) continue;
    const isDisk = vbd['type'] === 'Disk' && isRef(vdi);
    const copy = isDisk ? await forkVdi(pool, vdi, options.asSnapshot, options.date) : vdi;
    if (isDisk) vdis.set(vdi, copy);
    const { uuid: _uuid, allowed_operations: _allowed, current_operations: _current, ...fields } = structuredClone(vbd);
    db.create('VBD', { ...fields, VM: to, VDI: copy, device: '', currently_attached: false });
  }
  for (const vif of listOf(db.get('VM', from), 'VIFs').map((ref) => db.get('VIF', ref))) {
    const { uuid: _uuid, allowed_operations: _allowed, current_operations: _current, ...fields } = structuredClone(vif);
    const mac = options.asSnapshot ? textOf(vif, 'MAC') : derivedMac(pool, to, textOf(vif, 'device'));
    db.create('VIF', { ...fields, VM: to, MAC: mac, currently_attached: false });
  }
  return vdis;
}

function discardCopy(pool: Pool, copy: string): void {
  const vbds = listOf(pool.db.get('VM', copy), 'VBDs').map((ref) => pool.db.get('VBD', ref));
  for (const vbd of vbds) if (vbd['type'] === 'Disk' && isRef(vbd['VDI'])) removeVdi(pool, vbd['VDI']);
  for (const cls of ['VBD', 'VIF']) {
    for (const [ref, row] of pool.db.entries(cls)) if (row['VM'] === copy) pool.db.delete(cls, ref);
  }
  pool.db.delete('VM', copy);
}

/**
 * Takes a VM back to a snapshot as xapi before 26.16 does: its disks are destroyed and new ones made from the snapshot's,
 * so VDI references and uuids change; almost every field returns to what it was.
 */
async function revertVm(pool: Pool, vm: string, snapshot: string): Promise<void> {
  const { db } = pool;
  await pool.machines.kill(vm);
  const row = db.get('VM', vm);
  const kept = Object.fromEntries(['tags', 'affinity', 'parent'].map((field) => [field, row[field] ?? '']));
  const saved = JSON.parse(textOf(db.get('VM', snapshot), 'snapshot_metadata')) as Row;
  const oldVbds = listOf(row, 'VBDs');
  const oldDisks = oldVbds.map((ref) => db.get('VBD', ref)).filter((vbd) => vbd['type'] === 'Disk');
  for (const ref of [...oldVbds]) db.delete('VBD', ref);
  for (const ref of [...listOf(row, 'VIFs')]) db.delete('VIF', ref);
  const made = await copyDevices(pool, snapshot, vm, { asSnapshot: false, date: formatDate(), ignoredVdis: [] });
  for (const [frozen, fresh] of made) {
    const old = textOf(db.get('VDI', frozen), 'snapshot_of');
    if (!oldDisks.some((vbd) => vbd['VDI'] === old)) continue;
    for (const sibling of [...listOf(db.get('VDI', old), 'snapshots')]) db.set('VDI', sibling, { snapshot_of: fresh });
    removeVdi(pool, old);
  }
  // Cards keep the snapshot's MACs: they are the VM's own.
  const macs = new Map(
    listOf(db.get('VM', snapshot), 'VIFs').map((ref) => [db.get('VIF', ref)['device'], db.get('VIF', ref)['MAC']]),
  );
  for (const ref of listOf(db.get('VM', vm), 'VIFs')) {
    db.set('VIF', ref, { MAC: macs.get(db.get('VIF', ref)['device']) ?? '' });
  }
  db.set('VM', vm, {
    ...copiedFields(db.get('VM', snapshot)),
    ...kept,
    ...saved,
    is_a_snapshot: false,
    is_a_template: false,
    snapshot_of: NULL_REF,
    snapshot_time: '19700101T00:00:00Z',
    snapshot_info: {},
    snapshot_metadata: '',
    parent: snapshot,
  });
}
