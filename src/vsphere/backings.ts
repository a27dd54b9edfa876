import type { MoRef } from './requests.js';
import type { DiskKind } from './types.js';

/** A backing of any type, as far as this folder reads it. Optional fields may really be absent. */
export interface Backing {
  $type: string;
  fileName?: string;
  datastore?: MoRef;
  diskMode?: string;
  changeId?: string;
  parent?: Backing;
  sharing?: string;
  keyId?: unknown;
  compatibilityMode?: string;
  descriptorFileName?: string;
  deviceName?: string;
  network?: MoRef;
  port?: { portgroupKey?: string };
}

/** A virtual device of any type, as far as this folder reads it. */
export interface Device {
  $type: string;
  key: number;
  deviceInfo?: { label: string };
  backing?: Backing;
  controllerKey?: number;
  unitNumber?: number;
  capacityInKB?: number;
  capacityInBytes?: number;
  nativeUnmanagedLinkedClone?: boolean;
  busNumber?: number;
  sharedBus?: string;
  macAddress?: string;
}

const KINDS: Record<string, DiskKind> = {
  VirtualDiskFlatVer2BackingInfo: 'flat',
  VirtualDiskFlatVer1BackingInfo: 'flatV1',
  VirtualDiskSeSparseBackingInfo: 'sesparse',
  VirtualDiskSparseVer1BackingInfo: 'sparse',
  VirtualDiskSparseVer2BackingInfo: 'sparse',
  VirtualDiskRawDiskVer2BackingInfo: 'rdmPhysical',
  VirtualDiskPartitionedRawDiskVer2BackingInfo: 'rdmPhysical',
  VirtualDiskLocalPMemBackingInfo: 'pmem',
};

export function capacityOf(disk: Device): number {
  return disk.capacityInBytes ?? (disk.capacityInKB ?? 0) * 1024;
}

/** What a disk is made of. `unknown` is a type this program has never heard of, and must be refused. */
export function diskKind(backing: Backing | undefined): DiskKind {
  if (backing?.$type === 'VirtualDiskRawDiskMappingVer1BackingInfo') {
    return backing.compatibilityMode === 'virtualMode' ? 'rdmVirtual' : 'rdmPhysical';
  }
  return KINDS[backing?.$type ?? ''] ?? 'unknown';
}

/** A backing and all below it, the one written to first. */
export function backingChain(backing: Backing): Backing[] {
  return [backing, ...(backing.parent ? backingChain(backing.parent) : [])];
}

export function fileNameOf(backing: Backing): string {
  return backing.fileName ?? backing.descriptorFileName ?? backing.deviceName ?? '';
}

export function baseFileOf(backing: Backing): string {
  return fileNameOf(backingChain(backing).at(-1) ?? backing);
}

/** `[ds] dir/sub/name.vmdk` taken apart; names may hold brackets. Undefined when it is no datastore path. */
export function parseDatastorePath(
  fileName: string,
): { datastore: string; path: string; directory: string } | undefined {
  const match = /^\[(.+?)\] (.+)$/.exec(fileName);
  if (!match) return undefined;
  const [, datastore = '', path = ''] = match;
  return { datastore, path, directory: path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : '' };
}
