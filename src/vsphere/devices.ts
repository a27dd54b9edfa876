import {
  backingChain,
  baseFileOf,
  capacityOf,
  diskKind,
  fileNameOf,
  parseDatastorePath,
  type Backing,
  type Device,
} from './backings.js';
import type { DiskControllerType, SourceDisk, SourceNic } from './types.js';

const CONTROLLERS: Record<string, DiskControllerType> = {
  VirtualIDEController: 'ide',
  VirtualSATAController: 'sata',
  VirtualAHCIController: 'sata',
  VirtualNVMEController: 'nvme',
  ParaVirtualSCSIController: 'pvscsi',
  VirtualLsiLogicController: 'lsilogic',
  VirtualLsiLogicSASController: 'lsisas',
  VirtualBusLogicController: 'buslogic',
};

const NIC_TYPES: Record<string, string> = {
  VirtualVmxnet3: 'vmxnet3',
  VirtualVmxnet3Vrdma: 'vmxnet3',
  VirtualVmxnet2: 'vmxnet2',
  VirtualE1000: 'e1000',
  VirtualE1000e: 'e1000e',
  VirtualPCNet32: 'pcnet32',
  VirtualSriovEthernetCard: 'sriov',
};

/** Devices that bind a VM to hardware of its host. */
const PASSTHROUGH = [
  ...['VirtualPCIPassthrough', 'VirtualSriovEthernetCard', 'VirtualUSB', 'VirtualSCSIPassthrough'],
  ...['VirtualSerialPort', 'VirtualParallelPort'],
];

export type DatastoreLookup = (moRef: string) => NonNullable<SourceDisk['datastore']> | undefined;

/** Disks in the order a guest sees them. */
export function readDisks(
  devices: Device[],
  home: string,
  hasSnapshots: boolean,
  lookup: DatastoreLookup,
): SourceDisk[] {
  const controllers = new Map(devices.map((device) => [device.key, device]));
  const rank: DiskControllerType[] = ['ide', 'sata', 'pvscsi', 'lsilogic', 'lsisas', 'buslogic', 'nvme', 'unknown'];
  return devices
    .filter(({ $type }) => $type === 'VirtualDisk')
    .map((device) => readDisk(device, controllers.get(device.controllerKey ?? -1), home, hasSnapshots, lookup))
    .sort(
      (a, b) =>
        rank.indexOf(a.controllerType) - rank.indexOf(b.controllerType) ||
        a.controllerBus - b.controllerBus ||
        a.unitNumber - b.unitNumber,
    );
}

function readDisk(
  device: Device,
  controller: Device | undefined,
  home: string,
  hasSnapshots: boolean,
  lookup: DatastoreLookup,
): SourceDisk {
  const backing: Backing = device.backing ?? { $type: '' };
  const shared = controller?.sharedBus !== undefined && controller.sharedBus !== 'noSharing';
  return {
    deviceKey: device.key,
    label: device.deviceInfo?.label ?? `disk ${device.key}`,
    capacityBytes: capacityOf(device),
    fileName: fileNameOf(backing),
    datastore: backing.datastore && lookup(backing.datastore.value),
    controllerType: CONTROLLERS[controller?.$type ?? ''] ?? 'unknown',
    controllerBus: controller?.busNumber ?? 0,
    unitNumber: device.unitNumber ?? 0,
    mode: backing.diskMode ?? 'persistent',
    kind: diskKind(backing),
    backingType: backing.$type,
    sharing: backing.sharing === 'sharingMultiWriter' ? 'multiWriter' : shared ? 'sharedBus' : 'none',
    encrypted: backingChain(backing).some(({ keyId }) => keyId !== undefined),
    linkedCloneOf: foreignBase(device, backing, home, hasSnapshots),
  };
}

// A chain without snapshots, or one that ends in another folder, stands on another VM's disk.
function foreignBase(device: Device, backing: Backing, home: string, hasSnapshots: boolean): string | undefined {
  const chain = backingChain(backing);
  if (chain.length === 1) return undefined;
  const top = parseDatastorePath(fileNameOf(backing))?.directory ?? home;
  const elsewhere = chain.find((link) => (parseDatastorePath(fileNameOf(link))?.directory ?? top) !== top);
  if (elsewhere) return fileNameOf(elsewhere);
  return device.nativeUnmanagedLinkedClone === true || !hasSnapshots ? baseFileOf(backing) : undefined;
}

/** @param networks Names of networks by MoRef and of distributed port groups by key. */
export function readNics(devices: Device[], networks: Map<string, string>): SourceNic[] {
  return devices
    .filter(({ macAddress }) => macAddress !== undefined)
    .map((device) => {
      const { backing } = device;
      const named = networks.get(backing?.port?.portgroupKey ?? backing?.network?.value ?? '');
      return {
        label: device.deviceInfo?.label ?? `network card ${device.key}`,
        mac: (device.macAddress ?? '').toLowerCase(),
        networkName: named ?? backing?.deviceName ?? '',
        type: NIC_TYPES[device.$type] ?? 'unknown',
      };
    });
}

export function readPassthrough(devices: Device[]): string[] {
  return devices.map(({ $type }) => $type).filter((type) => PASSTHROUGH.includes(type));
}
