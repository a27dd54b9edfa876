import { allRecords, belongsTo, isOriginal, KEYS, markSelf, NULL_REF, recordOf, refOf, setKey } from './marks.js';
import type { Connection } from './connection.js';
import { destroyVdi } from './removal.js';
import type { TargetDisk, TargetDiskSpec, TargetVmSpec, XapiRecord } from './types.js';

/** Names as the guide shows them while data flows (S98). */
export const importingName = (name: string): string => `[Importing...] ${name}`;

/** Both ways to start a VM are blocked apart (S100). */
const START_OPERATIONS = ['start', 'start_on'];
/** The CD drive's place: emulated IDE has four, and the guide's tool keeps the last for it (S19). */
const CD_POSITION = 3;
/** VHD ends at 2040 GiB; beyond it only qcow2 holds a disk (sm, vhdutil). */
export const VHD_LIMIT_BYTES = 2040 * 2 ** 30;

/** What an SR holds as qcow2: 16,381 GiB (the documented limit, three below 16 TiB). */
export const QCOW2_LIMIT_BYTES = 16_381 * 2 ** 30;

/** VHD up to its limit, qcow2 above it (S10). */
export function imageFormat(virtualSizeBytes: number): 'vhd' | 'qcow2' {
  return virtualSizeBytes > VHD_LIMIT_BYTES ? 'qcow2' : 'vhd';
}

/** May run twice: the VM of this migration is found by its mark. It cannot be started (S100) and says so in its name. */
export async function createTargetVm(xapi: Connection, spec: TargetVmSpec): Promise<{ vmUuid: string }> {
  const existing = (await allRecords(xapi, 'VM')).find(
    ([, vm]) => belongsTo(vm, spec.migrationId) && isOriginal(vm) && vm['is_a_snapshot'] === false,
  );
  const ref = existing?.[0] ?? (await xapi.call<string>('VM.create', await vmRecord(xapi, spec)));
  const vm = await xapi.call<XapiRecord>('VM.get_record', ref);
  await markSelf(xapi, 'VM', ref, vm);
  await blockStart(xapi, vm.uuid, `${spec.migrationId} is still being copied`);
  await createVifs(xapi, ref, spec.nics);
  if (spec.hasCdDrive && !(await hasDeviceAt(xapi, vm, String(CD_POSITION)))) await createCd(xapi, ref);
  return { vmUuid: vm.uuid };
}

async function vmRecord(xapi: Connection, spec: TargetVmSpec): Promise<Record<string, unknown>> {
  const template = await chooseTemplate(xapi, spec.isWindows);
  const uefi = spec.firmware === 'uefi';
  const { cpuCount, memoryBytes } = spec;
  return {
    name_label: importingName(spec.name),
    name_description: spec.description,
    user_version: 1,
    is_a_template: false,
    affinity: NULL_REF,
    memory_static_max: memoryBytes,
    memory_dynamic_max: memoryBytes,
    memory_dynamic_min: memoryBytes,
    memory_static_min: memoryBytes,
    VCPUs_params: {},
    VCPUs_max: cpuCount,
    VCPUs_at_startup: cpuCount,
    actions_after_shutdown: 'destroy',
    actions_after_reboot: 'restart',
    actions_after_crash: 'restart',
    PV_bootloader: '',
    PV_kernel: '',
    PV_ramdisk: '',
    PV_args: '',
    PV_bootloader_args: '',
    PV_legacy_args: '',
    HVM_boot_policy: 'BIOS order',
    // Never from the network: the test copy stands on a network of ours, the target on a real one.
    HVM_boot_params: { order: 'cd', firmware: spec.firmware },
    platform: {
      ...(template?.['platform'] as Record<string, string> | undefined),
      'device-model': uefi ? 'qemu-upstream-uefi' : 'qemu-upstream-compat',
      // As it came: a guest that was not enrolled for Secure Boot would not boot with it (S16).
      secureboot: 'false',
      ...(cpuCount % spec.coresPerSocket === 0 && { 'cores-per-socket': String(spec.coresPerSocket) }),
      ...(spec.isWindows && { viridian: 'true' }),
    },
    PCI_bus: '',
    other_config: { [KEYS.migration]: spec.migrationId },
    recommendations: (template?.['recommendations'] as string | undefined) ?? '',
    reference_label: (template?.['reference_label'] as string | undefined) ?? '',
    has_vendor_device: false,
    tags: ['surefire'],
  };
}

/** The nearest default template: its platform fits the guest, and no disk of it has to be removed. */
export async function chooseTemplate(xapi: Connection, isWindows: boolean): Promise<XapiRecord | undefined> {
  const templates = (await allRecords(xapi, 'VM'))
    .map(([, vm]) => vm)
    .filter((vm) => vm['is_default_template'] === true);
  const named = (pattern: RegExp) => templates.find((vm) => pattern.test(String(vm['name_label'])));
  return (isWindows ? named(/windows server/i) : undefined) ?? named(/^other install media$/i);
}

/** Cards in the source's order with the source's MACs; what is there already stays. */
export async function createVifs(
  xapi: Connection,
  vmRef: string,
  nics: { mac: string; networkUuid: string }[],
): Promise<void> {
  const present = await xapi.call<string[]>('VM.get_VIFs', vmRef);
  const taken = await Promise.all(present.map((vif) => xapi.call<string>('VIF.get_device', vif)));
  for (const [index, { mac, networkUuid }] of nics.entries()) {
    if (taken.includes(String(index))) continue;
    await xapi.call('VIF.create', {
      device: String(index),
      network: await refOf(xapi, 'network', networkUuid),
      VM: vmRef,
      MAC: mac,
      MTU: 1500,
      other_config: {},
      qos_algorithm_type: '',
      qos_algorithm_params: {},
    });
  }
}

async function createCd(xapi: Connection, vmRef: string): Promise<void> {
  await xapi.call('VBD.create', {
    ...vbd(vmRef, NULL_REF, CD_POSITION),
    bootable: false,
    mode: 'RO',
    type: 'CD',
    empty: true,
  });
}

const vbd = (VM: string, VDI: string, position: number): Record<string, unknown> => ({
  VM,
  VDI,
  userdevice: String(position),
  bootable: position === 0,
  mode: 'RW',
  type: 'Disk',
  empty: false,
  other_config: {},
  qos_algorithm_type: '',
  qos_algorithm_params: {},
});

async function hasDeviceAt(xapi: Connection, vm: XapiRecord, userdevice: string): Promise<boolean> {
  const vbds = await Promise.all((vm['VBDs'] as string[]).map((ref) => xapi.call<string>('VBD.get_userdevice', ref)));
  return vbds.includes(userdevice);
}

/** May run twice: a disk of this migration with this key is taken, and attached where it is not. */
export async function createTargetDisk(xapi: Connection, spec: TargetDiskSpec): Promise<TargetDisk> {
  const existing = (await allRecords(xapi, 'VDI')).find(
    ([, vdi]) =>
      belongsTo(vdi, spec.migrationId) &&
      isOriginal(vdi) &&
      vdi['is_a_snapshot'] === false &&
      vdi.other_config[KEYS.disk] === String(spec.deviceKey),
  );
  const ref = existing?.[0] ?? (await createVdi(xapi, spec));
  const vdi = await xapi.call<XapiRecord>('VDI.get_record', ref);
  await markSelf(xapi, 'VDI', ref, vdi);
  const position = spec.index < CD_POSITION ? spec.index : spec.index + 1;
  const [vmRef, vm] = await recordOf(xapi, 'VM', spec.vmUuid);
  if (!(await hasDeviceAt(xapi, vm, String(position)))) await xapi.call('VBD.create', vbd(vmRef, ref, position));
  return { deviceKey: spec.deviceKey, vdiUuid: vdi.uuid, virtualSizeBytes: Number(vdi['virtual_size']) };
}

async function createVdi(xapi: Connection, spec: TargetDiskSpec): Promise<string> {
  const format = imageFormat(spec.virtualSizeBytes);
  return xapi.call<string>('VDI.create', {
    name_label: spec.label,
    name_description: `Disk ${spec.deviceKey} of ${spec.migrationId}`,
    SR: await refOf(xapi, 'SR', spec.srUuid),
    virtual_size: spec.virtualSizeBytes,
    type: 'user',
    sharable: false,
    read_only: false,
    // Older drivers do not know the key and ignore it; what is too large for VHD they refuse.
    sm_config: format === 'qcow2' ? { 'image-format': format } : {},
    other_config: { [KEYS.migration]: spec.migrationId, [KEYS.disk]: String(spec.deviceKey) },
  });
}

/** Puts an empty disk in the place of a doubted one, which is destroyed first (R8). May run twice. */
export async function replaceDisk(xapi: Connection, doubtedVdiUuid: string, spec: TargetDiskSpec): Promise<TargetDisk> {
  await destroyVdi(xapi, doubtedVdiUuid);
  return createTargetDisk(xapi, spec);
}

export async function blockStart(xapi: Connection, vmUuid: string, reason: string): Promise<void> {
  const ref = await refOf(xapi, 'VM', vmUuid);
  for (const operation of START_OPERATIONS) {
    await xapi.call('VM.remove_from_blocked_operations', ref, operation);
    await xapi.call('VM.add_to_blocked_operations', ref, operation, reason);
  }
}

export async function unblockStart(xapi: Connection, vmUuid: string): Promise<void> {
  const ref = await refOf(xapi, 'VM', vmUuid);
  for (const operation of START_OPERATIONS) await xapi.call('VM.remove_from_blocked_operations', ref, operation);
}

/** True when neither way of starting it is open. */
export async function isBlocked(xapi: Connection, vmUuid: string): Promise<boolean> {
  const [, vm] = await recordOf(xapi, 'VM', vmUuid);
  return START_OPERATIONS.every((operation) => operation in (vm['blocked_operations'] as Record<string, string>));
}

export async function renameVm(xapi: Connection, vmUuid: string, name: string): Promise<void> {
  await xapi.call('VM.set_name_label', await refOf(xapi, 'VM', vmUuid), name);
}

/** Says on the VM that a migration ended here well, for the next preflight (R12). */
export async function markFinished(xapi: Connection, vmUuid: string, sourceInstanceUuid: string): Promise<void> {
  await setKey(xapi, 'VM', await refOf(xapi, 'VM', vmUuid), KEYS.finished, sourceInstanceUuid);
}

/** A migration that was rolled back has not ended well: the mark goes, so that another one may begin. */
export async function unmarkFinished(xapi: Connection, vmUuid: string): Promise<void> {
  await xapi.call('VM.remove_from_other_config', await refOf(xapi, 'VM', vmUuid), KEYS.finished);
}
