import type { Finding } from '../shared/findings.js';
import { broken, type Rule } from './eligibility-rules.js';
import type { SourceVm } from './types.js';

/** Devices that vSphere cannot freeze with the VM: no snapshot of it while it runs. */
const UNFREEZABLE = ['VirtualPCIPassthrough', 'VirtualSriovEthernetCard'];

/** What the guest may miss on its way: devices, firmware, drivers. */
export function findGuestRisks(vm: SourceVm): Finding[] {
  return [...broken(vm.name, deviceRules(vm)), ...findDriverRisks(vm)];
}

function deviceRules({ powerState, tools, passthroughDevices, firmware, secureBoot }: SourceVm): Rule[] {
  const freezes = powerState === 'poweredOff' || !passthroughDevices.some((type) => UNFREEZABLE.includes(type));
  const uefi = secureBoot
    ? 'It boots by UEFI with secure boot.'
    : 'It boots by UEFI; its UEFI variables do not travel.';
  return [
    [
      'V10',
      'warning',
      powerState === 'poweredOn' && !tools.running && 'VMware Tools do not run in the guest.',
      'running Tools, or another way to shut the guest down',
      'plan the shutdown at cutover: a command hook, a person, or consent to a hard power-off.',
    ],
    [
      'V12',
      freezes ? 'warning' : 'error',
      passthroughDevices.length > 0 && `Devices of the host are passed through: ${passthroughDevices.join(', ')}.`,
      'virtual devices only',
      freezes
        ? 'remove them, or do without: the target has no such device.'
        : 'remove them while the VM is off: no snapshot can be taken of it as it is, and the target has no such device.',
    ],
    [
      'V20',
      secureBoot ? 'warning' : 'info',
      firmware === 'uefi' && uefi,
      'a guest that boots from the default UEFI path',
      'check the boot entry on the test copy; enrol secure boot keys on the pool where it is used.',
    ],
  ];
}

/** Removing Tools from Windows takes these drivers along, and with them the boot disk or the network (S83). */
function findDriverRisks(vm: SourceVm): Finding[] {
  if (!vm.isWindows || !vm.tools.installed) return [];
  const disks = vm.disks.filter(({ controllerType }) => controllerType === 'pvscsi');
  const nics = vm.nics.filter(({ type }) => type === 'vmxnet3');
  const about = (devices: { label: string }[], rule: Rule) =>
    broken(`${vm.name}: ${devices.map(({ label }) => label).join(', ')}`, [rule]);
  return [
    ...about(disks, [
      'V22',
      'warning',
      disks[0] &&
        `${disks[0].label} hangs on a PVSCSI controller of a Windows guest; its driver comes with VMware Tools.`,
      'a controller whose driver Windows brings itself, such as LSI Logic SAS',
      'change the controller type before Tools are removed, or the VM may not boot afterwards.',
    ]),
    ...about(nics, [
      'V23',
      'warning',
      nics[0] && `${nics[0].label} is a VMXNET3 card of a Windows guest; its driver comes with VMware Tools.`,
      'a card whose driver Windows brings itself, such as E1000E',
      'expect the network to be gone once Tools are removed; note the addresses and have console access.',
    ]),
  ];
}
