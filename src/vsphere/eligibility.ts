import type { Finding } from '../shared/findings.js';
import { ALTERNATIVES, findDiskProblems } from './eligibility-disks.js';
import type { SourceVm } from './types.js';

/**
 * Everything about a source VM that stops its migration or that a person must know beforehand: all of it, not the first.
 *
 * Pure. Codes follow the table of checks: V for the VM, D for its disks.
 */
export function findSourceProblems(vm: SourceVm): Finding[] {
  return [...findVmProblems(vm), ...findDriverRisks(vm), ...vm.disks.flatMap((disk) => findDiskProblems(disk, vm))];
}

function findVmProblems(vm: SourceVm): Finding[] {
  const findings: Finding[] = [];
  const add = (
    code: string,
    severity: Finding['severity'],
    [observed, expected, remedy]: [string, string, string],
  ): void => void findings.push({ code, severity, object: vm.name, observed, expected, remedy });

  if (vm.snapshots.length > 0) {
    const names = vm.snapshots.map(({ name }) => `"${name}"`).join(', ');
    add('V1', 'warning', [
      `${vm.snapshots.length} snapshot(s) exist: ${names}.`,
      'no snapshot when the migration begins',
      'the migration lists them and removes them only after `approveSnapshotRemoval`.',
    ]);
  }
  if (vm.consolidationNeeded) {
    add('V2', 'warning', [
      'The disks need consolidation.',
      'disks without left-over deltas',
      'the migration consolidates them first; end backup jobs of this VM.',
    ]);
  }
  if (!vm.changeTrackingSupported || vm.hardwareVersion < 7) {
    add('V4', 'warning', [
      `Changed-block tracking is not supported (virtual hardware ${vm.hardwareVersion}).`,
      'virtual hardware 7 or newer',
      'upgrade the virtual hardware while the VM is off, or accept that deltas are found by slower ways.',
    ]);
  }
  if (vm.isTemplate) {
    add('V6', 'error', ['It is a template.', 'a virtual machine', 'convert the template to a VM.']);
  }
  if (vm.powerState === 'suspended') {
    add('V7', 'error', ['It is suspended.', 'on or off', 'resume it, or resume it and shut it down.']);
  }
  if (vm.connectionState !== 'connected') {
    add('V8', 'error', [
      `Its connection state is "${vm.connectionState}".`,
      'connected',
      'bring its host and storage back in the vSphere client.',
    ]);
  }
  if (vm.pendingQuestion !== undefined) {
    add('V9', 'error', [
      `It waits for an answer: "${vm.pendingQuestion}"`,
      'no open question',
      'answer it in the vSphere client.',
    ]);
  }
  if (vm.powerState === 'poweredOn' && !vm.tools.running) {
    add('V10', 'warning', [
      'VMware Tools do not run in the guest.',
      'running Tools, or another way to shut the guest down',
      'plan the shutdown at cutover: a command hook, a person, or consent to a hard power-off.',
    ]);
  }
  if (vm.faultTolerance) {
    add('V11', 'error', ['Fault tolerance is on.', 'fault tolerance off', 'turn fault tolerance off for this VM.']);
  }
  if (vm.passthroughDevices.length > 0) {
    add('V12', 'warning', [
      `Devices of the host are passed through: ${vm.passthroughDevices.join(', ')}.`,
      'virtual devices only',
      'remove them: snapshots may fail, and the target has no such device.',
    ]);
  }
  if (vm.host.inMaintenance) {
    add('V13', 'error', [
      `Its host ${vm.host.name} is in maintenance mode.`,
      'a host in service',
      'wait, or move the VM to another host.',
    ]);
  }
  const held = vm.disabledMethods.filter((method) => /CreateSnapshot|RemoveSnapshot|PowerO(n|ff)VM/.test(method));
  if (held.length > 0) {
    add('V14', 'error', [
      `Another product has disabled ${held.join(', ')}.`,
      'no disabled methods',
      'wait until its job ends, or clear the lock it left behind.',
    ]);
  }
  if (vm.mark !== undefined) {
    add('V18', 'error', [
      `A migration of it has finished before: ${vm.mark}`,
      'no mark of a finished migration',
      'if it shall really be migrated again, remove `surefire.migration` from its advanced configuration.',
    ]);
  }
  if (vm.hasVtpm || vm.encrypted) {
    add('V19', 'error', [
      vm.hasVtpm ? 'It has a virtual TPM.' : 'Its configuration is encrypted.',
      'no virtual TPM and no VM encryption',
      `suspend BitLocker or what else uses it, remove it, decrypt the VM; alternatives: ${ALTERNATIVES}`,
    ]);
  }
  if (vm.firmware === 'uefi') {
    add('V20', vm.secureBoot ? 'warning' : 'info', [
      vm.secureBoot ? 'It boots by UEFI with secure boot.' : 'It boots by UEFI; its UEFI variables do not travel.',
      'a guest that boots from the default UEFI path',
      'check the boot entry on the test copy; enrol secure boot keys on the pool where it is used.',
    ]);
  }
  if (vm.disks.length === 0) {
    add('V21', 'error', ['It has no disk.', 'at least one disk', 'choose another VM.']);
  }
  return findings;
}

/** Removing Tools from Windows takes these drivers along, and with them the boot disk or the network (S83). */
function findDriverRisks(vm: SourceVm): Finding[] {
  if (!vm.isWindows || !vm.tools.installed) return [];
  const disks = vm.disks.filter(({ controllerType }) => controllerType === 'pvscsi');
  const nics = vm.nics.filter(({ type }) => type === 'vmxnet3');
  return [
    ...disks.slice(0, 1).map((disk): Finding => ({
      code: 'V22',
      severity: 'warning',
      object: `${vm.name}: ${disks.map(({ label }) => label).join(', ')}`,
      observed: `${disk.label} hangs on a PVSCSI controller of a Windows guest; its driver comes with VMware Tools.`,
      expected: 'a controller whose driver Windows brings itself, such as LSI Logic SAS',
      remedy: 'change the controller type before Tools are removed, or the VM may not boot afterwards.',
    })),
    ...nics.slice(0, 1).map((nic): Finding => ({
      code: 'V23',
      severity: 'warning',
      object: `${vm.name}: ${nics.map(({ label }) => label).join(', ')}`,
      observed: `${nic.label} is a VMXNET3 card of a Windows guest; its driver comes with VMware Tools.`,
      expected: 'a card whose driver Windows brings itself, such as E1000E',
      remedy: 'expect the network to be gone once Tools are removed; note the addresses and have console access.',
    })),
  ];
}
