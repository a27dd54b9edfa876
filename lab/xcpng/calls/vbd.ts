import { assertActivatable, assertShareable, attachmentsOf, isRef } from '../datapath.js';
import { NULL_REF } from '../datamodel.js';
import { XapiError } from '../errors.js';
import { constructorFields } from '../generic.js';
import type { Behaviour } from '../methods.js';
import type { Call, Pool } from '../pool.js';
import { flagOf, listOf, textOf } from '../values.js';

/** Highest position of a disk in a VM. */
const LAST_POSITION = 254;

/** Links between VMs and disks. */
export const vbdCalls: Record<string, Behaviour> = {
  'VBD.create': ({ pool }: Call, record: unknown) => {
    const fields = constructorFields('VBD', record);
    const vm = textOf(fields, 'VM');
    pool.db.get('VM', vm);
    const isCd = fields['type'] === 'CD';
    const isEmpty = flagOf(fields, 'empty');
    if (isCd && fields['mode'] !== 'RO') throw new XapiError('VBD_CDS_MUST_BE_READONLY');
    if (isEmpty && !isCd) throw new XapiError('VBD_NOT_REMOVABLE_MEDIA', ['in constructor']);
    if (!isEmpty) {
      const vdi = pool.db.get('VDI', textOf(fields, 'VDI'));
      if (!flagOf(vdi, 'managed')) throw new XapiError('VDI_NOT_MANAGED', [textOf(fields, 'VDI')]);
      if (flagOf(vdi, 'read_only') && fields['mode'] === 'RW') {
        throw new XapiError('VDI_READONLY', [textOf(fields, 'VDI')]);
      }
    }
    const userdevice = placeOf(pool, vm, textOf(fields, 'userdevice'));
    return pool.db.create('VBD', {
      ...fields,
      VDI: isEmpty ? NULL_REF : (fields['VDI'] ?? NULL_REF),
      userdevice,
      device: '',
      currently_attached: false,
    });
  },
  'VBD.destroy': ({ pool }: Call, ref: string) => {
    const vbd = pool.db.get('VBD', ref);
    if (flagOf(vbd, 'currently_attached')) {
      const vm = textOf(pool.db.get('VM', textOf(vbd, 'VM')), 'uuid');
      throw new XapiError('OPERATION_NOT_ALLOWED', [`VBD '${textOf(vbd, 'uuid')}' still attached to '${vm}'`]);
    }
    pool.db.delete('VBD', ref);
  },
  'VBD.plug': ({ pool }: Call, ref: string) => {
    const vbd = pool.db.get('VBD', ref);
    const vmRef = textOf(vbd, 'VM');
    const vm = pool.db.get('VM', vmRef);
    if (flagOf(vbd, 'currently_attached')) throw new XapiError('DEVICE_ALREADY_ATTACHED', [ref]);
    const state = textOf(vm, 'power_state').toLowerCase();
    if (state !== 'running') throw new XapiError('VM_BAD_POWER_STATE', [vmRef, 'running', state]);
    if (!flagOf(vm, 'is_control_domain')) throw new XapiError('NOT_IMPLEMENTED', ['VBD.plug into a running guest']);
    const vdi = textOf(vbd, 'VDI');
    assertShareable(pool, vdi, vmRef, vbd['mode'] === 'RW');
    assertActivatable(pool, vdi, textOf(vm, 'resident_on'), vbd['mode'] === 'RW');
    pool.db.set('VBD', ref, { currently_attached: true });
  },
  'VBD.unplug': ({ pool }: Call, ref: string) => unplug(pool, ref, false),
  'VBD.unplug_force': ({ pool }: Call, ref: string) => unplug(pool, ref, true),
  'VBD.insert': ({ pool }: Call, ref: string, vdi: string) => {
    assertRemovable(pool, ref);
    if (!flagOf(pool.db.get('VBD', ref), 'empty')) throw new XapiError('VBD_NOT_EMPTY', [ref]);
    pool.db.get('VDI', vdi);
    pool.db.set('VBD', ref, { VDI: vdi, empty: false });
  },
  'VBD.eject': ({ pool }: Call, ref: string) => {
    assertRemovable(pool, ref);
    if (flagOf(pool.db.get('VBD', ref), 'empty')) throw new XapiError('VBD_IS_EMPTY', [ref]);
    pool.db.set('VBD', ref, { VDI: NULL_REF, empty: true });
  },
  'VBD.assert_attachable': ({ pool }: Call, ref: string) => {
    const vbd = pool.db.get('VBD', ref);
    if (isRef(vbd['VDI'])) assertShareable(pool, vbd['VDI'], textOf(vbd, 'VM'), vbd['mode'] === 'RW');
  },

  'VM.get_allowed_VBD_devices': ({ pool }: Call, vm: string) => {
    const taken = takenPositions(pool, vm);
    return [...Array(LAST_POSITION + 1).keys()].map(String).filter((position) => !taken.has(position));
  },
};

function takenPositions(pool: Pool, vm: string): Set<string> {
  return new Set(listOf(pool.db.get('VM', vm), 'VBDs').map((vbd) => textOf(pool.db.get('VBD', vbd), 'userdevice')));
}

function placeOf(pool: Pool, vm: string, wanted: string): string {
  const taken = takenPositions(pool, vm);
  if (wanted === 'autodetect') {
    return [...Array(LAST_POSITION + 1).keys()].map(String).find((position) => !taken.has(position)) ?? wanted;
  }
  if (!/^\d+$/.test(wanted) || Number(wanted) > LAST_POSITION) throw new XapiError('INVALID_DEVICE', [wanted]);
  if (taken.has(wanted)) throw new XapiError('DEVICE_ALREADY_EXISTS', [wanted]);
  return wanted;
}

function assertRemovable(pool: Pool, ref: string): void {
  const vbd = pool.db.get('VBD', ref);
  if (vbd['type'] !== 'CD') throw new XapiError('VBD_NOT_REMOVABLE_MEDIA', [ref]);
  if (flagOf(vbd, 'currently_attached')) throw new XapiError('NOT_IMPLEMENTED', ['media change in a running VM']);
}

function unplug(pool: Pool, ref: string, force: boolean): void {
  const vbd = pool.db.get('VBD', ref);
  if (!flagOf(vbd, 'currently_attached')) throw new XapiError('DEVICE_ALREADY_DETACHED', [ref]);
  if (!flagOf(vbd, 'unpluggable')) throw new XapiError('VBD_NOT_UNPLUGGABLE', [ref]);
  const isGuest = attachmentsOf(pool, textOf(vbd, 'VDI')).some((at) => at.vbd === ref && !at.isControlDomain);
  if (isGuest) throw new XapiError('DEVICE_DETACH_REJECTED', ['VBD', ref, 'the guest has no PV drivers']);
  const writer = pool.importsUnderWay.get(ref);
  if (writer !== undefined && !force) throw new XapiError('DEVICE_DETACH_REJECTED', ['VBD', ref, 'device is busy']);
  writer?.revoke();
  pool.db.set('VBD', ref, { currently_attached: false });
}
