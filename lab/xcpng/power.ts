import { assertActivatable, assertShareable, isRef } from './datapath.js';
import { NULL_REF, type Row } from './datamodel.js';
import { XapiError } from './errors.js';
import type { Pool, PowerChange } from './pool.js';
import { formatDate, isStruct, listOf, mapOf, numberOf, textOf } from './values.js';

// What the database says about a VM's power; the processes are in `machines.ts`.

/** @throws VDI_IN_USE, INVALID_VALUE, VCPU_MAX_NOT_CORES_PER_SOCKET_MULTIPLE */
export function assertBootable(pool: Pool, vmRef: string): void {
  const vm = pool.db.get('VM', vmRef);
  const firmware = firmwareOf(vm);
  if (!['bios', 'uefi'].includes(firmware)) {
    throw new XapiError('INVALID_VALUE', ["HVM-boot-params['firmware']", firmware]);
  }
  const model = mapOf(vm, 'platform')['device-model'];
  if ((model === 'qemu-upstream-uefi' && firmware === 'bios') || (model === 'qemu-trad' && firmware === 'uefi')) {
    throw new XapiError('INVALID_VALUE', ['platform:device-model', model]);
  }
  const cores = mapOf(vm, 'platform')['cores-per-socket'];
  if (cores !== undefined && numberOf(vm, 'VCPUs_max') % Number(cores) !== 0) {
    throw new XapiError('VCPU_MAX_NOT_CORES_PER_SOCKET_MULTIPLE', [numberOf(vm, 'VCPUs_max'), cores]);
  }
  for (const vbd of vbdsOf(pool, vmRef)) {
    if (isRef(vbd['VDI'])) assertShareable(pool, vbd['VDI'], vmRef, vbd['mode'] === 'RW');
  }
}

export function firmwareOf(vm: Row): string {
  return mapOf(vm, 'HVM_boot_params')['firmware'] ?? 'bios';
}

export function vbdsOf(pool: Pool, vmRef: string): Row[] {
  return listOf(pool.db.get('VM', vmRef), 'VBDs').map((ref) => pool.db.get('VBD', ref));
}

/** Attaches everything, starts the machine, and says so. */
export async function bootVm(pool: Pool, vmRef: string, hostRef: string, paused: boolean): Promise<void> {
  const { db } = pool;
  for (const vbd of vbdsOf(pool, vmRef)) {
    if (isRef(vbd['VDI'])) assertActivatable(pool, vbd['VDI'], hostRef, vbd['mode'] === 'RW');
  }
  forgetGuestMetrics(pool, vmRef);
  const vm = db.get('VM', vmRef);
  for (const ref of listOf(vm, 'VBDs')) {
    const letter = String.fromCharCode(97 + Math.min(25, Number(db.get('VBD', ref)['userdevice'])));
    db.set('VBD', ref, { currently_attached: true, device: `xvd${letter}` });
  }
  for (const ref of listOf(vm, 'VIFs')) db.set('VIF', ref, { currently_attached: true });
  const domids = db.entries('VM').map(([, row]) => numberOf(row, 'domid'));
  db.set('VM', vmRef, { domid: Math.max(0, ...domids) + 1, resident_on: hostRef, domarch: 'x86_64' });
  noteStart(pool, vmRef);
  const address = textOf(db.get('host', hostRef), 'address');
  const console = db.create('console', { VM: vmRef, protocol: 'rfb', other_config: {} });
  const location = `https://${address}/console?uuid=${textOf(db.get('console', console), 'uuid')}`;
  db.set('console', console, { location });
  recordPower(pool, vmRef, 'Running');
  try {
    await pool.machines.start(vmRef, paused);
  } catch (error) {
    haltVm(pool, vmRef);
    throw error;
  }
  db.set('VM', vmRef, { power_state: paused ? 'Paused' : 'Running' });
}

function recordPower(pool: Pool, vmRef: string, state: PowerChange['state']): void {
  pool.power.push({ at: new Date().toISOString(), vm: textOf(pool.db.get('VM', vmRef), 'uuid'), state });
}

/** A start or reboot of the guest: the start time moves, and what an agent had said is void. */
export function noteStart(pool: Pool, vmRef: string): void {
  forgetGuestMetrics(pool, vmRef);
  const vm = pool.db.get('VM', vmRef);
  const now = formatDate();
  pool.db.set('VM_metrics', textOf(vm, 'metrics'), {
    start_time: now,
    last_updated: now,
    memory_actual: numberOf(vm, 'memory_static_max'),
    VCPUs_number: numberOf(vm, 'VCPUs_at_startup'),
    hvm: true,
    current_domain_type: 'hvm',
    state: ['running'],
  });
}

/** The machine is gone: detaches everything and says Halted. */
export function haltVm(pool: Pool, vmRef: string): void {
  const { db } = pool;
  const vm = db.find('VM', vmRef);
  if (vm === undefined) return;
  recordPower(pool, vmRef, 'Halted');
  for (const ref of listOf(vm, 'VBDs')) db.set('VBD', ref, { currently_attached: false, device: '' });
  for (const ref of listOf(vm, 'VIFs')) db.set('VIF', ref, { currently_attached: false });
  for (const ref of [...listOf(vm, 'consoles')]) db.delete('console', ref);
  forgetGuestMetrics(pool, vmRef);
  db.set('VM_metrics', textOf(vm, 'metrics'), { state: [], current_domain_type: 'unspecified' });
  db.set('VM', vmRef, { power_state: 'Halted', domid: -1, resident_on: NULL_REF });
}

function forgetGuestMetrics(pool: Pool, vmRef: string): void {
  const metrics = pool.db.get('VM', vmRef)['guest_metrics'];
  if (!isRef(metrics)) return;
  pool.db.set('VM', vmRef, { guest_metrics: NULL_REF });
  pool.db.delete('VM_guest_metrics', metrics);
}

const GUEST_LINE = /^GUESTMETRICS (\{.*\})\s*$/;

/** Takes a line of the guest's console. One kind of line counts: the guest agent's, with what it knows as JSON (invariant 18). */
export function hearGuest(pool: Pool, vmRef: string, line: string): void {
  const text = GUEST_LINE.exec(line.trim())?.[1];
  const vm = pool.db.find('VM', vmRef);
  if (text === undefined || vm === undefined) return;
  let said: unknown;
  try {
    said = JSON.parse(text);
  } catch {
    // A line torn by the kernel's own messages says nothing.
    return;
  }
  if (!isStruct(said)) return;
  const detected = said['PV_drivers_detected'] === true;
  const fields: Row = {
    os_version: textMap(said['os_version']),
    networks: textMap(said['networks']),
    PV_drivers_detected: detected,
    PV_drivers_up_to_date: detected,
    live: true,
    last_updated: formatDate(),
  };
  const known = vm['guest_metrics'];
  if (isRef(known)) pool.db.set('VM_guest_metrics', known, fields);
  else pool.db.set('VM', vmRef, { guest_metrics: pool.db.create('VM_guest_metrics', fields) });
  pool.db.flush();
}

function textMap(value: unknown): Record<string, string> {
  return isStruct(value) ? Object.fromEntries(Object.entries(value).map(([key, item]) => [key, String(item)])) : {};
}
