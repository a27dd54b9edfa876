import { randomBytes, randomInt } from 'node:crypto';
import type { LabDescription } from './lab.js';
import { VsphereAdmin } from './vsphere/admin.js';

/** What the administrator inside a guest can do, with what it means. */
export const GUEST_ACTIONS = {
  'remove-tools': 'uninstalls VMware Tools',
  reboot: 'restarts the guest',
  shutdown: 'shuts the guest down from inside',
  write: 'writes new data to every disk, where no file system minds',
} as const;

export type GuestAction = keyof typeof GUEST_ACTIONS;

const WRITE_BYTES = 96 * 1024 + 512;

/**
 * Plays the administrator of a guest in a running lab.
 *
 * @param vmName Name of one of the lab's VMs.
 * @returns What was done, one sentence a line.
 * @throws Error when there is no such VM, or the VM's state forbids it.
 */
export async function actInGuest(lab: LabDescription, vmName: string, action: GuestAction): Promise<string[]> {
  const admin = new VsphereAdmin(lab.vsphere.adminUrl);
  switch (action) {
    case 'remove-tools':
      await admin.setTools(vmName, 'none');
      return [`VMware Tools are uninstalled in ${vmName}.`];
    case 'reboot':
      await admin.reboot(vmName);
      return [`${vmName} restarted.`];
    case 'shutdown':
      await admin.shutdown(vmName);
      return [`${vmName} shut itself down.`];
    case 'write':
      return writeToEveryDisk(admin, lab, vmName);
  }
}

async function writeToEveryDisk(admin: VsphereAdmin, lab: LabDescription, vmName: string): Promise<string[]> {
  const made = lab.vms.find((vm) => vm.name === vmName);
  if (made === undefined)
    throw new Error(`The lab has no VM "${vmName}". It has: ${lab.vms.map((vm) => vm.name).join(', ')}.`);
  const { disks } = await admin.vm(vmName);
  const done: string[] = [];
  for (const [index, { scratch }] of made.disks.entries()) {
    const disk = disks[index];
    if (disk === undefined) throw new Error(`Disk ${index} of ${vmName} is gone from the lab's vCenter.`);
    // Aligned to sectors only: what changed then fits no larger block.
    const offset = scratch.offset + 512 * randomInt((scratch.length - WRITE_BYTES) / 512);
    await admin.guestWrite(vmName, disk.deviceKey, offset, randomBytes(WRITE_BYTES));
    done.push(`${vmName} wrote ${WRITE_BYTES} bytes to disk ${index} (key ${disk.deviceKey}) at ${offset}.`);
  }
  return done;
}
