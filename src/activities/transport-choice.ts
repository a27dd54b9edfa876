import type { TransportProbe } from '../nbd/index.js';
import type { Finding, MigrationInput, Transport } from '../shared/index.js';
import type { SourceVm } from '../vsphere/index.js';

/** VDDK where it works, because it is faster and needs no empty chain; else https, the door that is always open. */
export function chooseTransport(
  vm: SourceVm,
  wanted: MigrationInput['policy']['transport'],
  probe: TransportProbe | undefined,
): Transport {
  if (wanted !== 'auto') return wanted;
  return probe?.vddk.usable || httpsObstacles(vm).length > 0 ? 'vddk' : 'https';
}

/** Disks that `/folder` does not serve as one flat file. */
export function httpsObstacles(vm: SourceVm): string[] {
  return vm.disks.flatMap((disk) => {
    if (disk.kind !== 'flat') return [`${disk.label} is ${disk.kind}, not a flat file`];
    if (disk.datastore && /vsan|vvol/i.test(disk.datastore.type))
      return [`${disk.label} lies on ${disk.datastore.type}`];
    return [];
  });
}

/** What a person has to know of a copy over https. */
export function httpsFindings(vm: SourceVm): Finding[] {
  return [
    ...httpsObstacles(vm).map((obstacle): Finding => ({
      code: 'N3',
      severity: 'error',
      object: vm.name,
      observed: `${obstacle}.`,
      expected: 'flat files on VMFS or NFS',
      remedy: 'use the vddk transport.',
    })),
    {
      code: 'N4',
      severity: 'warning',
      object: vm.name,
      observed: 'Over https the oldest snapshot is what can be read.',
      expected: 'knowing that there is no way back to "vm starting point" once the clean snapshot is taken',
      remedy:
        'acknowledge it: "vm starting point" ends at stage clean-snapshot, "vm without tools" when the test is accepted.',
    },
  ];
}
