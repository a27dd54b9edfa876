import { isRef, uuidOf } from './datapath.js';
import { NULL_REF, type Row } from './datamodel.js';
import { XapiError } from './errors.js';
import type { Pool } from './pool.js';
import { flagOf, listOf, mapOf, numberOf, textOf } from './values.js';

// What a storage manager does below XAPI: sizes, space, snapshot chains.

const MIB = 1024 ** 2;
const VHD_LIMIT_BYTES = 2040 * 1024 * MIB;
const QCOW2_LIMIT_BYTES = 16381 * 1024 * MIB;
const CHAIN_LIMIT = 30;
const THICK = new Set(['lvm', 'lvmoiscsi', 'lvmohba']);

/** A storage manager's error, in its three-part form. */
export function backendFailure(number: number, text: string): XapiError {
  return new XapiError(`SR_BACKEND_FAILURE_${number}`, ['', text, '']);
}

/** Thick SRs reserve the whole virtual size when a VDI is made. */
export function isThick(sr: Row): boolean {
  return THICK.has(textOf(sr, 'type'));
}

/** Formats the SR's storage manager can store, best first. */
function formatsOf(pool: Pool, srRef: string): string[] {
  const type = pool.db.get('SR', srRef)['type'];
  const plugin = pool.db.entries('SM').find(([, row]) => row['type'] === type)?.[1];
  return plugin === undefined ? ['vhd'] : listOf(plugin, 'supported_image_formats');
}

/**
 * Decides format and size of a new VDI (invariant 6): 2 MiB steps for VHD, 64 KiB for qcow2; above VHD's limit qcow2, where the SR has it.
 *
 * @throws SR_BACKEND_FAILURE_79 for a size no format can hold
 */
export function shapeVdi(
  pool: Pool,
  srRef: string,
  sizeBytes: number,
  wanted?: string,
): { format: string; sizeBytes: number } {
  const formats = formatsOf(pool, srRef);
  if (wanted !== undefined && !formats.includes(wanted)) {
    throw backendFailure(78, `VDI Creation failed [opterr=image format ${wanted} is not supported]`);
  }
  const format = wanted ?? (sizeBytes > VHD_LIMIT_BYTES && formats.includes('qcow2') ? 'qcow2' : (formats[0] ?? 'vhd'));
  const [step, limit] = format === 'qcow2' ? [64 * 1024, QCOW2_LIMIT_BYTES] : [2 * MIB, VHD_LIMIT_BYTES];
  const rounded = Math.ceil(sizeBytes / step) * step;
  if (sizeBytes <= 0 || rounded > limit) {
    const most = limit / MIB;
    throw backendFailure(79, `VDI Invalid size [opterr=VDI size must be between 1 MB and ${most} MB]`);
  }
  return { format, sizeBytes: rounded };
}

/** @throws SR_NO_PBDS, SR_BACKEND_FAILURE_44 on a thick SR without room; a thin SR lets everything in. */
export function assertSpace(pool: Pool, srRef: string, sizeBytes: number): void {
  if (pool.hostsOfSr(srRef).length === 0) throw new XapiError('SR_NO_PBDS', [srRef]);
  const sr = pool.db.get('SR', srRef);
  if (isThick(sr) && numberOf(sr, 'physical_utilisation') + sizeBytes > numberOf(sr, 'physical_size')) {
    throw backendFailure(44, 'There is insufficient space');
  }
}

/** Brings a VDI's and its SR's space figures up to date. */
export function refreshUsage(pool: Pool, vdiRef: string): void {
  const vdi = pool.db.find('VDI', vdiRef);
  if (vdi === undefined) return;
  const sr = pool.db.get('SR', textOf(vdi, 'SR'));
  const used = isThick(sr) ? numberOf(vdi, 'virtual_size') : pool.vdis.allocatedBytes(uuidOf(vdi));
  pool.db.set('VDI', vdiRef, { physical_utilisation: flagOf(vdi, 'managed') ? used : 0 });
  refreshSr(pool, textOf(vdi, 'SR'));
}

export function refreshSr(pool: Pool, srRef: string): void {
  let virtual = 0;
  let physical = 0;
  for (const ref of listOf(pool.db.get('SR', srRef), 'VDIs')) {
    const vdi = pool.db.get('VDI', ref);
    if (flagOf(vdi, 'managed')) virtual += numberOf(vdi, 'virtual_size');
    physical += numberOf(vdi, 'physical_utilisation');
  }
  pool.db.set('SR', srRef, { virtual_allocation: virtual, physical_utilisation: physical });
}

/** Destroys record and file, then lets the chain coalesce. */
export function removeVdi(pool: Pool, vdiRef: string): void {
  const vdi = pool.db.get('VDI', vdiRef);
  const srRef = textOf(vdi, 'SR');
  for (const vbd of listOf(vdi, 'VBDs')) pool.db.delete('VBD', vbd);
  pool.db.delete('VDI', vdiRef);
  // The record first: a file without a record is swept at the next start, a record without a file would be a broken disk.
  pool.db.flush();
  pool.vdis.destroy(uuidOf(vdi));
  refreshSr(pool, srRef);
  coalesceLater(pool, srRef);
}

/**
 * Copies a VDI into a new one of the same SR. The original keeps uuid and file; both get a hidden common base copy (invariant 12).
 *
 * @throws SR_BACKEND_FAILURE_109 when the chain is too long
 */
export async function forkVdi(pool: Pool, vdiRef: string, asSnapshot: boolean, date: string): Promise<string> {
  const { db } = pool;
  const source = db.get('VDI', vdiRef);
  const srRef = textOf(source, 'SR');
  assertSpace(pool, srRef, numberOf(source, 'virtual_size'));
  if (chainLength(pool, source) >= CHAIN_LIMIT) throw backendFailure(109, 'The snapshot chain is too long');
  const copy = db.create('VDI', { ...copiedFields(source), managed: false });
  try {
    await pool.vdis.copy(uuidOf(source), uuidOf(db.get('VDI', copy)));
  } catch (error) {
    db.delete('VDI', copy);
    throw error;
  }
  const smConfig = mapOf(source, 'sm_config');
  const base = db.create('VDI', {
    ...copiedFields(source),
    name_label: 'base copy',
    name_description: '',
    other_config: {},
    managed: false,
    sm_config: { ...smConfig },
  });
  db.set('VDI', base, { location: uuidOf(db.get('VDI', base)) });
  const child = { ...smConfig, 'vhd-parent': uuidOf(db.get('VDI', base)) };
  db.set('VDI', vdiRef, { sm_config: child });
  db.set('VDI', copy, {
    managed: true,
    location: uuidOf(db.get('VDI', copy)),
    sm_config: { ...child },
    ...(asSnapshot ? { is_a_snapshot: true, snapshot_of: vdiRef, snapshot_time: date } : {}),
  });
  refreshUsage(pool, copy);
  return copy;
}

function copiedFields(source: Row): Row {
  const fields = ['name_label', 'name_description', 'SR', 'virtual_size', 'type', 'sharable', 'read_only', 'tags'];
  const copied: Row = Object.fromEntries(fields.map((field) => [field, structuredClone(source[field] ?? '')]));
  return { ...copied, other_config: { ...mapOf(source, 'other_config') }, snapshot_of: NULL_REF };
}

function parentOf(pool: Pool, vdi: Row): Row | undefined {
  const parent = mapOf(vdi, 'sm_config')['vhd-parent'];
  return pool.db.entries('VDI').find(([, row]) => row['uuid'] === parent)?.[1];
}

function chainLength(pool: Pool, vdi: Row): number {
  let length = 1;
  for (let at = parentOf(pool, vdi); at !== undefined; at = parentOf(pool, at)) length += 1;
  return length;
}

function coalesceLater(pool: Pool, srRef: string): void {
  const timer = setTimeout(() => {
    pool.lagging.delete(timer);
    coalesce(pool, srRef);
    pool.db.flush();
  }, pool.timing.coalesceLagMs);
  pool.lagging.add(timer);
}

/** Removes base copies that no longer separate anything: those with fewer than two children. */
export function coalesce(pool: Pool, srRef: string): void {
  for (let changed = true; changed;) {
    changed = false;
    if (!isRef(srRef) || pool.db.find('SR', srRef) === undefined) return;
    const vdis = listOf(pool.db.get('SR', srRef), 'VDIs').map((ref): [string, Row] => [ref, pool.db.get('VDI', ref)]);
    for (const [ref, base] of vdis.filter(([, row]) => !flagOf(row, 'managed') && row['location'] !== '')) {
      const children = vdis.filter(([, row]) => mapOf(row, 'sm_config')['vhd-parent'] === base['uuid']);
      if (children.length > 1) continue;
      for (const [child, row] of children) {
        const { 'vhd-parent': _gone, ...rest } = mapOf(row, 'sm_config');
        const above = mapOf(base, 'sm_config')['vhd-parent'];
        pool.db.set('VDI', child, { sm_config: above === undefined ? rest : { ...rest, 'vhd-parent': above } });
      }
      pool.db.delete('VDI', ref);
      changed = true;
      break;
    }
  }
}
