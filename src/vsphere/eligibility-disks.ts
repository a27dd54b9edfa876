import { ALTERNATIVES } from '../shared/findings.js';
import type { Finding } from '../shared/findings.js';
import { formatBytes } from '../shared/format.js';
import { broken, type Rule } from './eligibility-rules.js';
import type { SourceDisk, SourceVm } from './types.js';

/** Less free space than this share of a disk makes a snapshot's growth a risk for every VM on the datastore. */
const SNAPSHOT_MARGIN = 0.1;
/** With less than this a snapshot cannot even be begun in peace; a full datastore stops all its VMs. */
const SNAPSHOT_FLOOR_BYTES = 256 * 1024 ** 2;

/** Findings about one disk. */
export function findDiskProblems(disk: SourceDisk, vm: SourceVm): Finding[] {
  const object = `${vm.name}: ${disk.label} (${disk.fileName})`;
  const refused = broken(object, refusals(disk, vm)).map((finding) => ({
    ...finding,
    remedy: `${finding.remedy} Alternatives: ${ALTERNATIVES}`,
  }));
  return [...refused, ...broken(object, [...notices(disk), spaceRule(disk)])];
}

function refusals(disk: SourceDisk, vm: SourceVm): Rule[] {
  const { kind, mode, datastore, sharing } = disk;
  const isRaw = kind === 'rdmPhysical' || kind === 'rdmVirtual';
  const isIndependent = /^independent/.test(mode);
  const lacksDatastore = (!datastore && !isRaw) || datastore?.accessible === false;
  const shared = sharing === 'multiWriter' ? 'Several VMs may write to it (multi-writer).' : 'Its SCSI bus is shared.';
  const twin = vm.disks.find(({ deviceKey, fileName }) => deviceKey !== disk.deviceKey && fileName === disk.fileName);
  return [
    [
      kind === 'rdmPhysical' ? 'D1' : 'D2',
      'error',
      isRaw && `It is a raw device mapping in ${kind === 'rdmPhysical' ? 'physical' : 'virtual'} compatibility mode.`,
      'a virtual disk file',
      'convert the LUN to a VMDK by Storage vMotion, or detach it and migrate it apart.',
    ],
    [
      'D3',
      'error',
      isIndependent && `It is independent (${mode}), so no snapshot contains it.`,
      'a dependent disk (persistent)',
      'power off, clear "Independent" in the disk\'s settings, try again.',
    ],
    [
      'D4',
      'error',
      !isIndependent && mode !== 'persistent' && `Its mode is "${mode}".`,
      'persistent',
      'set the mode to dependent while the VM is off.',
    ],
    [
      sharing === 'multiWriter' ? 'D5' : 'D6',
      'error',
      sharing !== 'none' && shared,
      'a disk of this VM alone',
      'detach it, or move the cluster by means of its application.',
    ],
    [
      'D7',
      'error',
      disk.encrypted && 'It is encrypted.',
      'an unencrypted disk',
      'decrypt it by its storage policy first.',
    ],
    [
      'D12',
      'error',
      (kind === 'pmem' || datastore?.type === 'PMEM') && 'It lies in persistent memory.',
      'a disk on a datastore',
      'move it to a datastore.',
    ],
    [
      'D16',
      'error',
      kind === 'unknown' && `Its backing is of a type this program does not know: ${disk.backingType || 'none'}.`,
      'a flat or SE sparse disk',
      'move it to a VMFS or NFS datastore by Storage vMotion.',
    ],
    [
      'D18',
      'error',
      disk.capacityBytes > 0 ? lacksDatastore && 'Its datastore is missing or not accessible.' : 'It has no size.',
      'a readable disk on an accessible datastore',
      'repair the storage.',
    ],
    ['D20', 'error', twin && `It shares its file with ${twin.label}.`, 'a file of its own', 'remove one of the two.'],
  ];
}

function notices({ datastore, linkedCloneOf, kind, backingType, controllerType }: SourceDisk): Rule[] {
  const unofficial = datastore && { vsan: 'vSAN', VVOL: 'vVols' }[datastore.type];
  return [
    [
      datastore?.type === 'vsan' ? 'D10' : 'D11',
      'warning',
      unofficial && `It lies on ${unofficial} (${datastore.name}), which is unofficial ground.`,
      'VMFS or NFS',
      'use the vddk transport (https cannot read it) and look at the test copy with care.',
    ],
    [
      'D13',
      'warning',
      linkedCloneOf !== undefined && `It is a linked clone on ${linkedCloneOf}.`,
      'a disk of its own',
      'make a full clone first, or see to it that the parent VM stays until the copy is done.',
    ],
    [
      'D15',
      'warning',
      (kind === 'sparse' || kind === 'flatV1') && `Its format is old (${backingType}).`,
      'a flat disk',
      'convert it by Storage vMotion, or accept that deltas are found by slower ways.',
    ],
    [
      'D14',
      'info',
      kind === 'sesparse' && 'It is an SE sparse disk.',
      'any format, over vddk; a flat disk over https',
      'use the vddk transport.',
    ],
    [
      'D17',
      'info',
      ['nvme', 'sata', 'ide'].includes(controllerType) && `It hangs on a controller of type ${controllerType}.`,
      'a guest that also finds its disks on IDE and on Xen block devices, which is what the target has',
      'see in the test copy whether it boots.',
    ],
  ];
}

function spaceRule({ datastore, capacityBytes }: SourceDisk): Rule {
  const wanted = Math.max(capacityBytes * SNAPSHOT_MARGIN, SNAPSHOT_FLOOR_BYTES);
  const free = datastore?.accessible ? datastore.freeBytes : Infinity;
  return [
    'V16',
    free < SNAPSHOT_FLOOR_BYTES ? 'error' : 'warning',
    free < wanted && `Its datastore ${datastore?.name} has ${formatBytes(Math.max(0, free))} free.`,
    `${formatBytes(wanted)} for the growth of snapshots`,
    'free space there: a full datastore stops all VMs on it.',
  ];
}
