import type { Finding } from '../shared/findings.js';
import { findingAbout } from './eligibility-row.js';
import type { SourceVm } from './types.js';

/** What the guest may miss on its way: devices, firmware, drivers. */
export function findGuestRisks(vm: SourceVm): Finding[] {
  return [...toolsRisk(vm), ...deviceRisk(vm), ...firmwareRisk(vm), ...driverRisks(vm)];
}

function toolsRisk(vm: SourceVm): Finding[] {
  if (vm.powerState !== 'poweredOn' || vm.tools.running) return [];
  return [
    findingAbout(vm.name, [
      'V10',
      'warning',
      'VMware Tools do not run in the guest.',
      'running Tools, or another way to shut the guest down',
      'plan the shutdown at cutover: a command hook, a person, or consent to a hard power-off.',
    ]),
  ];
}

/** Devices that vSphere cannot freeze with the VM: no snapshot of it while it runs. */
const UNFREEZABLE = ['VirtualPCIPassthrough', 'VirtualSriovEthernetCard'];

function deviceRisk(vm: SourceVm): Finding[] {
  if (vm.passthroughDevices.length === 0) return [];
  const isStopped = vm.powerState === 'poweredOff';
  const refused = !isStopped && vm.passthroughDevices.some((type) => UNFREEZABLE.includes(type));
  return [
    findingAbout(vm.name, [
      'V12',
      refused ? 'error' : 'warning',
      `Devices of the host are passed through: ${vm.passthroughDevices.join(', ')}.`,
      'virtual devices only',
      refused
        ? 'remove them while the VM is off: no snapshot can be taken of it as it is, and the target has no such device.'
        : 'remove them, or do without: the target has no such device.',
    ]),
  ];
}

function firmwareRisk(vm: SourceVm): Finding[] {
  if (vm.firmware !== 'uefi') return [];
  return [
    findingAbout(vm.name, [
      'V20',
      vm.secureBoot ? 'warning' : 'info',
      vm.secureBoot ? 'It boots by UEFI with secure boot.' : 'It boots by UEFI; its UEFI variables do not travel.',
      'a guest that boots from the default UEFI path',
      'check the boot entry on the test copy; enrol secure boot keys on the pool where it is used.',
    ]),
  ];
}

/** Removing Tools from Windows takes these drivers along, and with them the boot disk or the network (S83). */
function driverRisks(vm: SourceVm): Finding[] {
  if (!vm.isWindows || !vm.tools.installed) return [];
  const disks = vm.disks.filter(({ controllerType }) => controllerType === 'pvscsi');
  const nics = vm.nics.filter(({ type }) => type === 'vmxnet3');
  return [
    ...disks
      .slice(0, 1)
      .map((disk) =>
        findingAbout(`${vm.name}: ${disks.map(({ label }) => label).join(', ')}`, [
          'V22',
          'warning',
          `${disk.label} hangs on a PVSCSI controller of a Windows guest; its driver comes with VMware Tools.`,
          'a controller whose driver Windows brings itself, such as LSI Logic SAS',
          'change the controller type before Tools are removed, or the VM may not boot afterwards.',
        ]),
      ),
    ...nics
      .slice(0, 1)
      .map((nic) =>
        findingAbout(`${vm.name}: ${nics.map(({ label }) => label).join(', ')}`, [
          'V23',
          'warning',
          `${nic.label} is a VMXNET3 card of a Windows guest; its driver comes with VMware Tools.`,
          'a card whose driver Windows brings itself, such as E1000E',
          'expect the network to be gone once Tools are removed; note the addresses and have console access.',
        ]),
      ),
  ];
}
