import Table from 'cli-table3';
import { formatBytes } from '../../shared/index.js';
import type { Context } from '../context.js';
import { listVms } from '../find-vm.js';

/** The VMs of every vCenter, or of one. */
export async function inventory(context: Context, options: { vcenter?: string }): Promise<void> {
  const found = await listVms(context, options.vcenter);
  const vms = found
    .map(({ vcenter, vm }) => ({ vcenter, ...vm }))
    .sort((a, b) => a.vcenter.localeCompare(b.vcenter) || a.name.localeCompare(b.name));
  context.result(
    { vms },
    plainTable(
      ['vCenter', 'Name', 'MoRef', 'Power', 'Tools', 'Disks', 'Size', 'Guest', 'Folder'],
      vms.map((vm) => [
        ...[vm.vcenter, vm.name, vm.moRef, vm.powerState.replace('powered', '').toLowerCase(), vm.toolsStatus],
        ...[String(vm.diskCount), formatBytes(vm.diskTotalBytes), vm.guestFullName, vm.folderPath],
      ]),
    ),
  );
}

/** Columns without frames: it can be read, copied and cut. */
export function plainTable(head: string[], rows: string[][]): string {
  const blank = ['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right'];
  const inner = ['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid'];
  const table = new Table({
    head,
    chars: { ...Object.fromEntries([...blank, ...inner].map((side) => [side, ''])), middle: '  ' },
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
  });
  table.push(...rows);
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}
