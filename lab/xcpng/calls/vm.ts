import { randomUUID } from 'node:crypto';
import { NULL_REF, type Row } from '../datamodel.js';
import { XapiError } from '../errors.js';
import { constructorFields } from '../generic.js';
import type { Behaviour } from '../methods.js';
import { assertVmOperation, withVmOperation } from '../operations.js';
import { assertHostFits } from '../placement.js';
import type { Call, Pool } from '../pool.js';
import { listOf, mapOf, numberOf, textOf } from '../values.js';

/** VM records: making, changing, removing. Copies are in `vm-copies.ts`, power in `vm-power.ts`. */
export const vmCalls: Record<string, Behaviour> = {
  'VM.create': ({ pool }: Call, record: unknown) => {
    const fields = constructorFields('VM', record);
    const state = fields['power_state'] === 'Suspended' ? 'Suspended' : 'Halted';
    const policy = textOf(fields, 'HVM_boot_policy');
    return createVm(pool, {
      ...fields,
      power_state: state,
      // Always stored empty, whatever the client says (invariant 16).
      blocked_operations: {},
      domain_type:
        fields['domain_type'] === 'unspecified' ? (policy === '' ? 'pv' : 'hvm') : (fields['domain_type'] ?? ''),
      other_config: { mac_seed: randomUUID(), ...mapOf(fields, 'other_config') },
    });
  },
  'VM.destroy': (call: Call, ref: string) => withVmOperation(call, ref, 'destroy', () => removeVm(call.pool, ref)),

  'VM.set_is_a_template': ({ pool }: Call, ref: string, value: boolean) => {
    if (value) assertVmOperation(pool, ref, 'make_into_template');
    else pool.db.get('VM', ref);
    pool.db.set('VM', ref, { is_a_template: value });
  },
  'VM.provision': ({ pool }: Call, ref: string) => {
    assertVmOperation(pool, ref, 'provision');
    if ('disks' in mapOf(pool.db.get('VM', ref), 'other_config')) {
      throw new XapiError('NOT_IMPLEMENTED', ['VM.provision of a template with disks']);
    }
    pool.db.set('VM', ref, { is_a_template: false });
  },
  'VM.update_allowed_operations': ({ pool }: Call, ref: string) => {
    pool.db.get('VM', ref);
    pool.db.touch('VM', ref);
  },
  'VM.assert_operation_valid': ({ pool }: Call, ref: string, operation: string) =>
    assertVmOperation(pool, ref, operation),
  'VM.assert_can_boot_here': ({ pool }: Call, ref: string, host: string) => assertHostFits(pool, ref, host),

  'VM.set_VCPUs_max': ({ pool }: Call, ref: string, count: number) => {
    assertVmOperation(pool, ref, 'changing_VCPUs');
    if (count < 1 || count < numberOf(pool.db.get('VM', ref), 'VCPUs_at_startup')) {
      throw new XapiError('INVALID_VALUE', ['VCPUs_max', count]);
    }
    pool.db.set('VM', ref, { VCPUs_max: count });
  },
  'VM.set_VCPUs_at_startup': ({ pool }: Call, ref: string, count: number) => {
    assertVmOperation(pool, ref, 'changing_VCPUs');
    if (count < 1 || count > numberOf(pool.db.get('VM', ref), 'VCPUs_max')) {
      throw new XapiError('INVALID_VALUE', ['VCPUs_at_startup', count]);
    }
    pool.db.set('VM', ref, { VCPUs_at_startup: count });
  },
  'VM.set_memory_limits': (
    { pool }: Call,
    ref: string,
    staticMin: number,
    staticMax: number,
    dynamicMin: number,
    dynamicMax: number,
  ) => setMemory(pool, ref, staticMin, dynamicMin, dynamicMax, staticMax),
  'VM.set_memory': ({ pool }: Call, ref: string, bytes: number) =>
    setMemory(pool, ref, numberOf(pool.db.get('VM', ref), 'memory_static_min'), bytes, bytes, bytes),

  'VM.set_bios_strings': ({ pool }: Call, ref: string, strings: Record<string, string>) => {
    if (Object.keys(mapOf(pool.db.get('VM', ref), 'bios_strings')).length > 0) {
      throw new XapiError('VM_BIOS_STRINGS_ALREADY_SET');
    }
    pool.db.set('VM', ref, { bios_strings: strings });
  },
  'VM.set_NVRAM': ({ pool }: Call, ref: string, value: Record<string, string>) => setNvram(pool, ref, value),
  'VM.add_to_NVRAM': ({ pool }: Call, ref: string, key: string, value: string) => {
    const known = mapOf(pool.db.get('VM', ref), 'NVRAM');
    if (key in known) throw new XapiError('MAP_DUPLICATE_KEY', ['VM', 'NVRAM', ref, key]);
    setNvram(pool, ref, { ...known, [key]: value });
  },
  'VM.remove_from_NVRAM': ({ pool }: Call, ref: string, key: string) => {
    const { [key]: _removed, ...rest } = mapOf(pool.db.get('VM', ref), 'NVRAM');
    setNvram(pool, ref, rest);
  },

  'VTPM.create': ({ pool }: Call, vm: string, isUnique: boolean) => {
    assertVmOperation(pool, vm, 'create_vtpm');
    if (listOf(pool.db.get('VM', vm), 'VTPMs').length > 0) throw new XapiError('VTPM_MAX_AMOUNT_REACHED', ['1']);
    return pool.db.create('VTPM', { VM: vm, is_unique: isUnique });
  },
  'VTPM.destroy': ({ pool }: Call, ref: string) => {
    pool.db.get('VTPM', ref);
    pool.db.delete('VTPM', ref);
  },
};

/** A VM record with the metrics that belong to it. */
export function createVm(pool: Pool, fields: Row): string {
  const metrics = pool.db.create('VM_metrics', { memory_actual: 0, VCPUs_number: 0 });
  return pool.db.create('VM', {
    domid: -1,
    domarch: '',
    resident_on: NULL_REF,
    ...fields,
    metrics,
    guest_metrics: NULL_REF,
  });
}

/** Removes the record with its VBDs, VIFs and VTPMs. The VDIs stay (invariant 2). */
export function removeVm(pool: Pool, ref: string): void {
  const vm = pool.db.get('VM', ref);
  for (const cls of ['VBD', 'VIF', 'VTPM', 'console']) {
    for (const [owned, row] of pool.db.entries(cls)) if (row['VM'] === ref) pool.db.delete(cls, owned);
  }
  pool.db.delete('VM_metrics', textOf(vm, 'metrics'));
  pool.db.delete('VM_guest_metrics', textOf(vm, 'guest_metrics'));
  pool.db.delete('VM', ref);
}

function setMemory(pool: Pool, ref: string, ...[smin, dmin, dmax, smax]: [number, number, number, number]): void {
  assertVmOperation(pool, ref, 'changing_static_range');
  if (!(smin <= dmin && dmin <= dmax && dmax <= smax)) throw new XapiError('MEMORY_CONSTRAINT_VIOLATION_ORDER');
  pool.db.set('VM', ref, {
    memory_static_min: smin,
    memory_dynamic_min: dmin,
    memory_dynamic_max: dmax,
    memory_static_max: smax,
  });
}

function setNvram(pool: Pool, ref: string, value: Record<string, string>): void {
  assertVmOperation(pool, ref, 'changing_NVRAM');
  pool.db.set('VM', ref, { NVRAM: value });
}
