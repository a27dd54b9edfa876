import { ALTERNATIVES } from '../shared/findings.js';
import type { Finding } from '../shared/findings.js';
import { formatBytes } from '../shared/format.js';
import { findingAbout, type Row } from './eligibility-row.js';
import type { SourceDisk, SourceVm } from './types.js';

/** Less free space than this share of a disk makes a snapshot's growth a risk for every VM on the datastore. */
const SNAPSHOT_MARGIN = 0.1;
/** With less than this a snapshot cannot even be begun in peace; a full datastore stops all its VMs. */
const SNAPSHOT_FLOOR_BYTES = 256 * 1024 ** 2;

/** Findings about one disk. */
export function findDiskProblems(disk: SourceDisk, vm: SourceVm): Finding[] {
  const refused = refusals(disk, vm).map(([code, severity, observed, expected, remedy]): Row => [
    code,
    severity,
    observed,
    expected,
    `${remedy} Alternatives: ${ALTERNATIVES}`,
  ]);
  return [...refused, ...notices(disk), ...spaceNotice(disk)].map((row) =>
    findingAbout(`${vm.name}: ${disk.label} (${disk.fileName})`, row),
  );
}

function refusals(disk: SourceDisk, vm: SourceVm): Row[] {
  const rows: Row[] = [];
  if (disk.kind === 'rdmPhysical' || disk.kind === 'rdmVirtual') {
    const mode = disk.kind === 'rdmPhysical' ? 'physical' : 'virtual';
    rows.push([
      disk.kind === 'rdmPhysical' ? 'D1' : 'D2',
      'error',
      `It is a raw device mapping in ${mode} compatibility mode.`,
      'a virtual disk file',
      'convert the LUN to a VMDK by Storage vMotion, or detach it and migrate it apart.',
    ]);
  }
  if (/^independent/.test(disk.mode)) {
    rows.push([
      'D3',
      'error',
      `It is independent (${disk.mode}), so no snapshot contains it.`,
      'a dependent disk (persistent)',
      'power off, clear "Independent" in the disk\'s settings, try again.',
    ]);
  } else if (disk.mode !== 'persistent') {
    rows.push([
      'D4',
      'error',
      `Its mode is "${disk.mode}".`,
      'persistent',
      'set the mode to dependent while the VM is off.',
    ]);
  }
  if (disk.sharing !== 'none') {
    rows.push([
      disk.sharing === 'multiWriter' ? 'D5' : 'D6',
      'error',
      disk.sharing === 'multiWriter' ? 'Several VMs may write to it (multi-writer).' : 'Its SCSI bus is shared.',
      'a disk of this VM alone',
      'detach it, or move the cluster by means of its application.',
    ]);
  }
  if (disk.encrypted) {
    rows.push(['D7', 'error', 'It is encrypted.', 'an unencrypted disk', 'decrypt it by its storage policy first.']);
  }
  if (disk.kind === 'pmem' || disk.datastore?.type === 'PMEM') {
    rows.push(['D12', 'error', 'It lies in persistent memory.', 'a disk on a datastore', 'move it to a datastore.']);
  }
  if (disk.kind === 'unknown') {
    rows.push([
      'D16',
      'error',
      `Its backing is of a type this program does not know: ${disk.backingType || 'none'}.`,
      'a flat or SE sparse disk',
      'move it to a VMFS or NFS datastore by Storage vMotion.',
    ]);
  }
  const rawDevice = disk.kind === 'rdmPhysical' || disk.kind === 'rdmVirtual';
  if (!(disk.capacityBytes > 0) || (!disk.datastore && !rawDevice) || disk.datastore?.accessible === false) {
    rows.push([
      'D18',
      'error',
      disk.capacityBytes > 0 ? 'Its datastore is missing or not accessible.' : 'It has no size.',
      'a readable disk on an accessible datastore',
      'repair the storage.',
    ]);
  }
  const twin = vm.disks.find(({ deviceKey, fileName }) => deviceKey !== disk.deviceKey && fileName === disk.fileName);
  if (twin) {
    rows.push([
      'D20',
      'error',
      `It shares its file with ${twin.label}.`,
      'a file of its own',
      'remove one of the two.',
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
  if (disk.kind === 'sesparse') {
    rows.push([
      'D14',
      'info',
      'It is an SE sparse disk.',
      'any format, over vddk; a flat disk over https',
      'use the vddk transport.',
    ]);
  }
  if (['nvme', 'sata', 'ide'].includes(disk.controllerType)) {
    rows.push([
      'D17',
      'info',
      `It hangs on a controller of type ${disk.controllerType}.`,
      'a guest that also finds its disks on IDE and on Xen block devices, which is what the target has',
      'see in the test copy whether it boots.',
    ]);
  }
  return rows;
}

function spaceNotice({ datastore, capacityBytes }: SourceDisk): Row[] {
  if (!datastore?.accessible) return [];
  const wanted = Math.max(capacityBytes * SNAPSHOT_MARGIN, SNAPSHOT_FLOOR_BYTES);
  if (datastore.freeBytes >= wanted) return [];
  return [
    [
      'V16',
      datastore.freeBytes < SNAPSHOT_FLOOR_BYTES ? 'error' : 'warning',
      `Its datastore ${datastore.name} has ${formatBytes(Math.max(0, datastore.freeBytes))} free.`,
      `${formatBytes(wanted)} for the growth of snapshots`,
      'free space there: a full datastore stops all VMs on it.',
    ],
  ];
}
