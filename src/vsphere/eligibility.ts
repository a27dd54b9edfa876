import { ALTERNATIVES } from '../shared/findings.js';
import type { Finding } from '../shared/findings.js';
import { findDiskProblems } from './eligibility-disks.js';
import { findGuestRisks } from './eligibility-guest.js';
import { broken, type Rule } from './eligibility-rules.js';
import type { SourceVm } from './types.js';

/**
 * Everything about a source VM that stops its migration or that a person must know beforehand: all of it, not the first.
 *
 * Pure. Codes follow the order of checks: V for the VM, D for its disks.
 */
export function findSourceProblems(vm: SourceVm): Finding[] {
  return [
    ...broken(vm.name, [...snapshotRules(vm), ...stateRules(vm), ...holderRules(vm), ...identityRules(vm)]),
    ...findGuestRisks(vm),
    ...vm.disks.flatMap((disk) => findDiskProblems(disk, vm)),
  ];
}

function snapshotRules(vm: SourceVm): Rule[] {
  const names = vm.snapshots.map(({ name }) => `"${name}"`).join(', ');
  const canTrack = vm.changeTrackingSupported && vm.hardwareVersion >= 7;
  return [
    [
      'V1',
      'warning',
      vm.snapshots.length > 0 && `${vm.snapshots.length} snapshot(s) exist: ${names}.`,
      'no snapshot when the migration begins',
      'the migration lists them and removes them only after `approveSnapshotRemoval`.',
    ],
    [
      'V2',
      'warning',
      vm.consolidationNeeded && 'The disks need consolidation.',
      'disks without left-over deltas',
      'the migration consolidates them first; end backup jobs of this VM.',
    ],
    [
      'V4',
      'warning',
      !canTrack && `Changed-block tracking is not supported (virtual hardware ${vm.hardwareVersion}).`,
      'virtual hardware 7 or newer',
      'upgrade the virtual hardware while the VM is off, or accept that deltas are found by slower ways.',
    ],
    [
      'V3',
      'info',
      canTrack && !vm.changeTrackingEnabled && 'Changed-block tracking is off.',
      'on; the migration switches it on',
      'expect a pause of a second or so when the first snapshot makes it effective.',
    ],
  ];
}

function stateRules(vm: SourceVm): Rule[] {
  const { connectionState, pendingQuestion, host } = vm;
  const isSuspended = vm.powerState === 'suspended';
  const away = host.inMaintenance ? 'in maintenance mode' : !host.connected && 'not connected to vCenter';
  return [
    ['V6', 'error', vm.isTemplate && 'It is a template.', 'a virtual machine', 'convert the template to a VM.'],
    ['V7', 'error', isSuspended && 'It is suspended.', 'on or off', 'resume it, or resume it and shut it down.'],
    [
      'V8',
      'error',
      connectionState !== 'connected' && `Its connection state is "${connectionState}".`,
      'connected',
      'bring its host and storage back in the vSphere client.',
    ],
    [
      'V9',
      'error',
      pendingQuestion !== undefined && `It waits for an answer: "${pendingQuestion}"`,
      'no open question',
      'answer it in the vSphere client.',
    ],
    [
      'V13',
      'error',
      away && `Its host ${host.name} is ${away}.`,
      'a host in service',
      'wait until it is back, or move the VM to another host.',
    ],
    ['V21', 'error', vm.disks.length === 0 && 'It has no disk.', 'at least one disk', 'choose another VM.'],
  ];
}

/** What somebody else does with it. */
function holderRules(vm: SourceVm): Rule[] {
  // A running VM cannot be powered on, nor a stopped one off: those are disabled always, and mean nothing.
  const needed = ['CreateSnapshot_Task', 'CreateSnapshotEx_Task', 'RemoveSnapshot_Task'];
  if (vm.powerState === 'poweredOn') needed.push('PowerOffVM_Task');
  if (vm.powerState === 'poweredOff') needed.push('PowerOnVM_Task');
  const held = vm.disabledMethods.filter((method) => needed.includes(method));
  return [
    ['V11', 'error', vm.faultTolerance && 'Fault tolerance is on.', 'fault tolerance off', 'turn it off for this VM.'],
    [
      'V14',
      'error',
      held.length > 0 && `Another product has disabled ${held.join(', ')}.`,
      'no disabled methods',
      'wait until its job ends, or clear the lock it left behind.',
    ],
    [
      'V15',
      'warning',
      vm.managedBy !== undefined && `It is managed by the extension ${vm.managedBy}.`,
      'a VM that only people manage',
      'ask who runs that product: it may change or recreate the VM.',
    ],
    [
      'V18',
      'error',
      vm.mark !== undefined && `A migration of it has finished before: ${vm.mark}`,
      'no mark of a finished migration',
      'if it shall really be migrated again, start with --repeat "why".',
    ],
  ];
}

function identityRules(vm: SourceVm): Rule[] {
  const locked = vm.cryptoLocked ? ', and its key provider does not answer' : '';
  const encrypted = vm.encrypted && `Its configuration is encrypted${locked}.`;
  return [
    [
      'V19',
      'error',
      vm.hasVtpm ? 'It has a virtual TPM.' : encrypted,
      'no virtual TPM and no VM encryption',
      `suspend BitLocker or what else uses it, remove it, decrypt the VM. Alternatives: ${ALTERNATIVES}`,
    ],
    [
      'V17',
      'warning',
      // vSphere writes / % and \ in a name as %2f, %25 and %5c.
      vm.datacenterPath.includes('%') &&
        `The name of its datacenter (${vm.datacenterPath}) has characters that paths are made of.`,
      'a name without / \\ %',
      'should https not find the disks, rename the datacenter or use the vddk transport.',
    ],
  ];
}
