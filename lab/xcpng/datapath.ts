import { NULL_REF, type Row } from './datamodel.js';
import { XapiError } from './errors.js';
import type { Pool } from './pool.js';
import { flagOf, listOf, textOf } from './values.js';

// Who may attach a VDI where (invariants 7, 10-13).

interface Attachment {
  vbd: string;
  vmRef: string;
  hostRef: string;
  isControlDomain: boolean;
  isWriting: boolean;
}

/** Everyone who has the VDI attached now. */
export function attachmentsOf(pool: Pool, vdiRef: string): Attachment[] {
  const attached = listOf(pool.db.get('VDI', vdiRef), 'VBDs').filter((vbd) =>
    flagOf(pool.db.get('VBD', vbd), 'currently_attached'),
  );
  return attached.map((vbd) => {
    const row = pool.db.get('VBD', vbd);
    const vmRef = textOf(row, 'VM');
    const vm = pool.db.get('VM', vmRef);
    return {
      vbd,
      vmRef,
      hostRef: textOf(vm, 'resident_on'),
      isControlDomain: flagOf(vm, 'is_control_domain'),
      isWriting: row['mode'] === 'RW',
    };
  });
}

/**
 * The sharing check between ordinary VMs. Control domains are exempt from it (invariant 10), so a VM starts
 * although an import writes to its disk.
 *
 * @throws VDI_IN_USE, VDI_NOT_MANAGED
 */
export function assertShareable(pool: Pool, vdiRef: string, forVm: string, isWriting: boolean): void {
  const vdi = pool.db.get('VDI', vdiRef);
  if (!flagOf(vdi, 'managed')) throw new XapiError('VDI_NOT_MANAGED', [vdiRef]);
  if (flagOf(vdi, 'sharable')) return;
  const rival = attachmentsOf(pool, vdiRef).some(
    (other) =>
      !other.isControlDomain &&
      other.vmRef !== forVm &&
      pool.db.get('VM', other.vmRef)['power_state'] !== 'Suspended' &&
      (isWriting || other.isWriting),
  );
  if (rival) throw new XapiError('VDI_IN_USE', [vdiRef]);
}

/**
 * What the storage manager says to one more attachment on that host (invariant 11).
 *
 * @throws SR_BACKEND_FAILURE_46 where another host writes or is to be kept from writing; INTERNAL_ERROR for readers first, writer second.
 */
export function assertActivatable(pool: Pool, vdiRef: string, hostRef: string, isWriting: boolean): void {
  const others = attachmentsOf(pool, vdiRef);
  const elsewhere = others.some((other) => other.hostRef !== hostRef && (isWriting || other.isWriting));
  if (elsewhere) {
    const text = 'The VDI is not available [opterr=VDI not detached cleanly]';
    throw new XapiError('SR_BACKEND_FAILURE_46', ['', text, '']);
  }
  if (isWriting && others.length > 0 && others.every((other) => !other.isWriting)) {
    const text = `Storage_interface.Storage_error ([S(Illegal_transition);[[S(Activated);S(RO)];[S(Activated);S(RW)]]])`;
    throw new XapiError('INTERNAL_ERROR', [text]);
  }
}

/**
 * Attaches a VDI to a host's control domain, as imports and exports do.
 *
 * @param taskRef Noted on the VBD, as xapi up to 26.1 does.
 * @returns The VBD.
 */
export function attachToControlDomain(
  pool: Pool,
  vdiRef: string,
  hostRef: string,
  mode: 'RO' | 'RW',
  taskRef: string,
): string {
  const { db } = pool;
  const fault = mode === 'RW' ? pool.faults.takeFor('attach', textOf(db.get('VDI', vdiRef), 'uuid')) : undefined;
  if (fault !== undefined) {
    throw new XapiError(fault.code ?? 'SR_BACKEND_FAILURE_46', ['', 'The VDI is not available [opterr=fault]', '']);
  }
  if (!flagOf(db.get('VDI', vdiRef), 'managed')) throw new XapiError('VDI_NOT_MANAGED', [vdiRef]);
  assertActivatable(pool, vdiRef, hostRef, mode === 'RW');
  const vm = pool.controlDomain(hostRef);
  const taken = listOf(db.get('VM', vm), 'VBDs').map((vbd) => Number(db.get('VBD', vbd)['userdevice']));
  const position = [...Array(4096).keys()].find((candidate) => !taken.includes(candidate)) ?? 0;
  return db.create('VBD', {
    VM: vm,
    VDI: vdiRef,
    userdevice: String(position),
    device: `sm/backend/${position}`,
    mode,
    type: 'Disk',
    unpluggable: true,
    other_config: { task_id: taskRef },
    currently_attached: true,
  });
}

/** Ends an attachment of a control domain after the lag of the real one, best effort. */
export function detachLater(pool: Pool, vbdRef: string): void {
  const vdi = pool.db.find('VDI', textOf(pool.db.get('VBD', vbdRef), 'VDI'));
  const fault = vdi === undefined ? undefined : pool.faults.takeFor('detachLag', textOf(vdi, 'uuid'));
  const timer = setTimeout(() => {
    pool.lagging.delete(timer);
    pool.db.delete('VBD', vbdRef);
    pool.db.flush();
  }, fault?.ms ?? pool.timing.detachLagMs);
  pool.lagging.add(timer);
}

/** The VDI a client names by reference or, failing that, by uuid. */
export function resolveVdi(pool: Pool, name: string): string {
  return pool.db.find('VDI', name) === undefined ? pool.db.byUuid('VDI', name) : name;
}

/** True where a reference points at something. */
export function isRef(ref: unknown): ref is string {
  return typeof ref === 'string' && ref !== '' && ref !== NULL_REF;
}

/** The uuid in a row. */
export function uuidOf(row: Row): string {
  return textOf(row, 'uuid');
}
