import { createHash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { type MadeDisk, makeBootDisk, makeDataDisk } from './disks/disks.js';
import type { VsphereVm } from './vsphere/start.js';

const MiB = 1024 * 1024;

/** A VM the lab is to have: a boot disk of its own that really boots, and data disks. */
export interface LabVmSpec {
  name: string;
  firmware: 'bios' | 'uefi';
  /** False: its first disk is 8 MiB of data from which nothing boots, for tests that do not look at the guest. */
  boots?: boolean;
  /** One data disk for each, of this many bytes (a multiple of 512). */
  dataDiskBytes?: number[];
  /** Numbers of the disks that never get a changeId, from 0. */
  untrackedDisks?: number[];
  /** What differs from the usual: running, Tools running, one vmxnet3 card, an empty CD drive, CBT off. */
  vsphere?: Partial<Omit<VsphereVm, 'name' | 'firmware' | 'disks'>>;
}

/** The two VMs of the demo. The size of the last disk is a multiple of 512 and of nothing larger. */
export const DEMO_VMS: LabVmSpec[] = [
  { name: 'web01', firmware: 'bios' },
  { name: 'db01', firmware: 'uefi', dataDiskBytes: [64 * MiB + 12_345 * 512] },
];

/** A VM as it was made. */
export interface LabVmMade {
  name: string;
  firmware: 'bios' | 'uefi';
  /** What the guest prints when it boots: `BOOTPROOF nonce=...`. */
  nonce: string;
  mac: string;
  /** The address its guest gives itself. */
  ip: string;
  /** Boot disk first. `path` is the input that the disk was made from, not the disk. */
  disks: MadeDisk[];
}

/** What a VM was asked for and how it was made; kept in the state folder. */
export interface VmOnRecord {
  spec: LabVmSpec;
  made: LabVmMade;
}

/** Makes the disks of VMs in a folder, and their addresses. */
export async function makeVms(dir: string, specs: LabVmSpec[]): Promise<VmOnRecord[]> {
  const records: VmOnRecord[] = [];
  for (const spec of specs) {
    const nonce = randomBytes(8).toString('hex');
    const boot = join(dir, `${spec.name}.raw`);
    const { firmware, boots = true } = spec;
    const first = boots
      ? makeBootDisk({ firmware, path: boot, nonce })
      : makeDataDisk({ path: boot, sizeBytes: 8 * MiB, seed: nonce });
    const disks = [await first];
    for (const [index, sizeBytes] of (spec.dataDiskBytes ?? []).entries()) {
      disks.push(await makeDataDisk({ path: join(dir, `${spec.name}_${index + 1}.raw`), sizeBytes, seed: nonce }));
    }
    // 00:50:56:00-3f is the range vSphere lets people choose from; the guest makes its address of the last three bytes.
    const bytes = [...createHash('sha256').update(spec.name).digest().subarray(0, 3)];
    bytes[0] = (bytes[0] ?? 0) & 0x3f;
    const hex = bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(':');
    const made = {
      name: spec.name,
      firmware: spec.firmware,
      nonce,
      mac: `00:50:56:${hex}`,
      ip: `10.${bytes.join('.')}`,
    };
    records.push({ spec, made: { ...made, disks } });
  }
  return records;
}

/** The VM as lab/vsphere is told to have it. */
export function scenarioOf(made: LabVmMade, spec: LabVmSpec): VsphereVm {
  return {
    firmware: made.firmware === 'uefi' ? 'efi' : 'bios',
    guestId: 'debian12_64Guest',
    hostName: made.name,
    cpus: 1,
    memoryMiB: 256,
    poweredOn: true,
    tools: 'running',
    nics: [{ type: 'vmxnet3', network: 'VM Network', mac: made.mac, ips: [made.ip] }],
    cdroms: [{}],
    ...spec.vsphere,
    name: made.name,
    disks: made.disks.map(({ path }, index) => ({
      file: path,
      controller: 'pvscsi',
      noTracking: spec.untrackedDisks?.includes(index) ?? false,
    })),
  };
}
