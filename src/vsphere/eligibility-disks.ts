import { formatBytes } from '../shared/format.js';
import type { Finding } from '../shared/findings.js';
import type { SourceDisk, SourceVm } from './types.js';

/** Where people find other ways for what we refuse: OVA, disk export, copying from inside the guest (S123). */
export const ALTERNATIVES = 'https://docs.xcp-ng.org/installation/migrate-to-xcp-ng/';

/** Less free space than this share of a disk makes a snapshot's growth a risk for every VM on the datastore. */
const SNAPSHOT_MARGIN = 0.1;

/** Findings about one disk. */
export function findDiskProblems(disk: SourceDisk, vm: SourceVm): Finding[] {
  return [...refusals(disk), ...notices(disk)].map(([code, severity, observed, expected, remedy]) => ({
    code,
    severity,
    object: `${vm.name}: ${disk.label} (${disk.fileName})`,
    observed,
    expected,
    remedy: severity === 'error' ? `${remedy} Alternatives: ${ALTERNATIVES}` : remedy,
  }));
}

type Row = [code: string, severity: Finding['severity'], observed: string, expected: string, remedy: string];

function refusals(disk: SourceDisk): Row[] {
  const rows: Row[] = [];
  if (disk.kind === 'rdmPhysical' || disk.kind === 'rdmVirtual') {
    const mode = disk.kind === 'rdmPhysical' ? 'physical' : 'virtual';
    rows.push([
      disk.kind === 'rdmPhysical' ? 'D1' : 'D2',
      'error',
      `It is a raw device mapping in ${mode} compatibility mode.`,
      'a virtual disk file',
      'Convert the LUN to a VMDK by Storage vMotion, or detach it and migrate it apart.',
    ]);
  }
  if (/^independent/.test(disk.mode)) {
    rows.push([
      'D3',
      'error',
      `It is independent (${disk.mode}), so no snapshot contains it.`,
      'a dependent disk (persistent)',
      'Power off, clear "Independent" in the disk\'s settings, try again.',
    ]);
  } else if (disk.mode !== 'persistent') {
    rows.push([
      'D4',
      'error',
      `Its mode is "${disk.mode}".`,
      'persistent',
      'Set the mode to dependent while the VM is off.',
    ]);
  }
  if (disk.sharing !== 'none') {
    rows.push([
      disk.sharing === 'multiWriter' ? 'D5' : 'D6',
      'error',
      disk.sharing === 'multiWriter' ? 'Several VMs may write to it (multi-writer).' : 'Its SCSI bus is shared.',
      'a disk of this VM alone',
      'Detach it, or move the cluster by means of its application.',
    ]);
  }
  if (disk.encrypted) {
    rows.push(['D7', 'error', 'It is encrypted.', 'an unencrypted disk', 'Decrypt it by its storage policy first.']);
  }
  if (disk.kind === 'pmem' || disk.datastore?.type === 'PMEM') {
    rows.push(['D12', 'error', 'It lies in persistent memory.', 'a disk on a datastore', 'Move it to a datastore.']);
  }
  if (disk.kind === 'unknown') {
    rows.push([
      'D16',
      'error',
      `Its backing is of a type this program does not know: ${disk.backingType || 'none'}.`,
      'a flat or SE sparse disk',
      'Move it to a VMFS or NFS datastore by Storage vMotion.',
    ]);
  }
  const rawDevice = disk.kind === 'rdmPhysical' || disk.kind === 'rdmVirtual';
  if (!(disk.capacityBytes > 0) || (!disk.datastore && !rawDevice) || disk.datastore?.accessible === false) {
    rows.push([
      'D18',
      'error',
      disk.capacityBytes > 0 ? 'Its datastore is missing or not accessible.' : 'It has no size.',
      'a readable disk on an accessible datastore',
      'Repair the storage.',
    ]);
  }
  return rows;
}

function notices(disk: SourceDisk): Row[] {
  const rows: Row[] = [];
  const { datastore } = disk;
  if (datastore?.type === 'vsan' || datastore?.type === 'VVOL') {
    rows.push([
      datastore.type === 'vsan' ? 'D10' : 'D11',
      'warning',
      `It lies on ${datastore.type === 'vsan' ? 'vSAN' : 'vVols'} (${datastore.name}), which is unofficial ground.`,
      'VMFS or NFS',
      'use the vddk transport (https cannot read it) and look at the test copy with care.',
    ]);
  }
  if (disk.linkedCloneOf !== undefined) {
    rows.push([
      'D13',
      'warning',
      `It is a linked clone on ${disk.linkedCloneOf}.`,
      'a disk of its own',
      'make a full clone first, or see to it that the parent VM stays until the copy is done.',
    ]);
  }
  if (disk.kind === 'sparse' || disk.kind === 'flatV1') {
    rows.push([
      'D15',
      'warning',
      `Its format is old (${disk.backingType}).`,
      'a flat disk',
      'convert it by Storage vMotion, or accept that deltas are found by slower ways.',
    ]);
  }
  const wanted = disk.capacityBytes * SNAPSHOT_MARGIN;
  if (datastore?.accessible && datastore.freeBytes < wanted) {
    rows.push([
      'V16',
      'warning',
      `Its datastore ${datastore.name} has ${formatBytes(Math.max(0, datastore.freeBytes))} free.`,
      `${formatBytes(wanted)} for the growth of snapshots`,
      'free space there: a full datastore stops all VMs on it.',
    ]);
  }
  return rows;
}
