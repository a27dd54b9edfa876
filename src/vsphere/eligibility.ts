import { ALTERNATIVES } from '../shared/findings.js';
import type { Finding } from '../shared/findings.js';
import { findDiskProblems } from './eligibility-disks.js';
import { findGuestRisks } from './eligibility-guest.js';
import { findingAbout, type Row } from './eligibility-row.js';
import type { SourceVm } from './types.js';

/**
 * Everything about a source VM that stops its migration or that a person must know beforehand: all of it, not the first.
 *
 * Pure. Codes follow the order of checks: V for the VM, D for its disks.
 */
export function findSourceProblems(vm: SourceVm): Finding[] {
  const ofVm = [...snapshotRows(vm), ...stateRows(vm), ...holderRows(vm), ...identityRows(vm)];
  return [
    ...ofVm.map((row) => findingAbout(vm.name, row)),
    ...findGuestRisks(vm),
    ...vm.disks.flatMap((disk) => findDiskProblems(disk, vm)),
  ];
}

function snapshotRows(vm: SourceVm): Row[] {
  const rows: Row[] = [];
  if (vm.snapshots.length > 0) {
    const names = vm.snapshots.map(({ name }) => `"${name}"`).join(', ');
    rows.push([
      'V1',
      'warning',
      `${vm.snapshots.length} snapshot(s) exist: ${names}.`,
      'no snapshot when the migration begins',
      'the migration lists them and removes them only after `approveSnapshotRemoval`.',
    ]);
  }
  if (vm.consolidationNeeded) {
    rows.push([
      'V2',
      'warning',
      'The disks need consolidation.',
      'disks without left-over deltas',
      'the migration consolidates them first; end backup jobs of this VM.',
    ]);
  }
  if (!vm.changeTrackingSupported || vm.hardwareVersion < 7) {
    rows.push([
      'V4',
      'warning',
      `Changed-block tracking is not supported (virtual hardware ${vm.hardwareVersion}).`,
      'virtual hardware 7 or newer',
      'upgrade the virtual hardware while the VM is off, or accept that deltas are found by slower ways.',
    ]);
  } else if (!vm.changeTrackingEnabled) {
    rows.push([
      'V3',
      'info',
      'Changed-block tracking is off.',
      'on; the migration switches it on',
      'expect a pause of a second or so when the first snapshot makes it effective.',
    ]);
  }
  return rows;
}

function stateRows(vm: SourceVm): Row[] {
  const rows: Row[] = [];
  if (vm.isTemplate) {
    rows.push(['V6', 'error', 'It is a template.', 'a virtual machine', 'convert the template to a VM.']);
  }
  if (vm.powerState === 'suspended') {
    rows.push(['V7', 'error', 'It is suspended.', 'on or off', 'resume it, or resume it and shut it down.']);
  }
  if (vm.connectionState !== 'connected') {
    rows.push([
      'V8',
      'error',
      `Its connection state is "${vm.connectionState}".`,
      'connected',
      'bring its host and storage back in the vSphere client.',
    ]);
  }
  if (vm.pendingQuestion !== undefined) {
    rows.push([
      'V9',
      'error',
      `It waits for an answer: "${vm.pendingQuestion}"`,
      'no open question',
      'answer it in the vSphere client.',
    ]);
  }
  if (vm.host.inMaintenance || !vm.host.connected) {
    rows.push([
      'V13',
      'error',
      `Its host ${vm.host.name} is ${vm.host.inMaintenance ? 'in maintenance mode' : 'not connected to vCenter'}.`,
      'a host in service',
      'wait until it is back, or move the VM to another host.',
    ]);
  }
  if (vm.disks.length === 0) {
    rows.push(['V21', 'error', 'It has no disk.', 'at least one disk', 'choose another VM.']);
  }
  return rows;
}

/** What somebody else does with it. */
function holderRows(vm: SourceVm): Row[] {
  const rows: Row[] = [];
  if (vm.faultTolerance) {
    rows.push(['V11', 'error', 'Fault tolerance is on.', 'fault tolerance off', 'turn it off for this VM.']);
  }
  // A running VM cannot be powered on, nor a stopped one off: those are disabled always, and mean nothing.
  const needed = ['CreateSnapshot_Task', 'CreateSnapshotEx_Task', 'RemoveSnapshot_Task'];
  if (vm.powerState === 'poweredOn') needed.push('PowerOffVM_Task');
  if (vm.powerState === 'poweredOff') needed.push('PowerOnVM_Task');
  const held = vm.disabledMethods.filter((method) => needed.includes(method));
  if (held.length > 0) {
    rows.push([
      'V14',
      'error',
      `Another product has disabled ${held.join(', ')}.`,
      'no disabled methods',
      'wait until its job ends, or clear the lock it left behind.',
    ]);
  }
  if (vm.managedBy !== undefined) {
    rows.push([
      'V15',
      'warning',
      `It is managed by the extension ${vm.managedBy}.`,
      'a VM that only people manage',
      'ask who runs that product: it may change or recreate the VM.',
    ]);
  }
  if (vm.mark !== undefined) {
    rows.push([
      'V18',
      'error',
      `A migration of it has finished before: ${vm.mark}`,
      'no mark of a finished migration',
      'if it shall really be migrated again, start with --repeat "why".',
    ]);
  }
  return rows;
}

function identityRows(vm: SourceVm): Row[] {
  const rows: Row[] = [];
  if (vm.hasVtpm || vm.encrypted) {
    const locked = vm.cryptoLocked ? ', and its key provider does not answer' : '';
    rows.push([
      'V19',
      'error',
      vm.hasVtpm ? 'It has a virtual TPM.' : `Its configuration is encrypted${locked}.`,
      'no virtual TPM and no VM encryption',
      `suspend BitLocker or what else uses it, remove it, decrypt the VM. Alternatives: ${ALTERNATIVES}`,
    ]);
  }
  // vSphere writes / % and \ in a name as %2f, %25 and %5c.
  if (vm.datacenterPath.includes('%')) {
    rows.push([
      'V17',
      'warning',
      `The name of its datacenter (${vm.datacenterPath}) has characters that paths are made of.`,
      'a name without / \\ %',
      'should https not find the disks, rename the datacenter or use the vddk transport.',
    ]);
  }
  return rows;
}
