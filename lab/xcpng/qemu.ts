import { isRef, uuidOf } from './datapath.js';
import type { Row } from './datamodel.js';
import type { Pool } from './pool.js';
import { firmwareOf, vbdsOf } from './power.js';
import { listOf, numberOf, textOf } from './values.js';

const MEMORY_MIB = 256;
const OVMF = '/usr/share/ovmf/OVMF.fd';
/** Positions the emulated IDE controller covers, as on a real host. */
const IDE_POSITIONS = 4;

/**
 * Arguments of a machine for a VM: its own VDI files, its own MACs, no outside network.
 * The serial console is standard output; the monitor is file descriptor 3.
 */
export function qemuArguments(pool: Pool, vmRef: string, paused: boolean): string[] {
  const vm = pool.db.get('VM', vmRef);
  const firmware = firmwareOf(vm);
  return [
    ...['-nodefaults', '-no-user-config', '-name', uuidOf(vm), '-uuid', uuidOf(vm)],
    ...['-machine', 'pc', '-accel', 'tcg', '-m', String(MEMORY_MIB), '-smp', String(Math.min(2, vcpus(vm)))],
    ...['-display', 'none', '-vga', 'std'],
    ...['-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console'],
    ...['-chardev', 'socket,id=monitor,fd=3', '-mon', 'chardev=monitor,mode=control'],
    // The guest's shutdown ends the process; its reboot does too where the VM is not to come back.
    ...['-action', vm['actions_after_reboot'] === 'destroy' ? 'reboot=shutdown' : 'reboot=reset'],
    ...(firmware === 'uefi' ? ['-bios', OVMF] : []),
    ...(paused ? ['-S'] : []),
    ...vbdsOf(pool, vmRef).flatMap((vbd) => driveArguments(pool, vbd, firmware)),
    ...listOf(vm, 'VIFs').flatMap((ref) => nicArguments(pool, pool.db.get('VIF', ref))),
  ];
}

function vcpus(vm: Row): number {
  return Math.max(1, numberOf(vm, 'VCPUs_at_startup'));
}

function driveArguments(pool: Pool, vbd: Row, firmware: string): string[] {
  const position = Number(vbd['userdevice']);
  const id = `disk${position}`;
  const bus = `bus=ide.${position >> 1},unit=${position & 1}`;
  const isCd = vbd['type'] === 'CD';
  if (!isRef(vbd['VDI'])) return isCd && position < IDE_POSITIONS ? ['-device', `ide-cd,${bus}`] : [];
  const readOnly = vbd['mode'] === 'RO' ? ',readonly=on' : '';
  // A comma in a path is doubled, as qemu wants it.
  const path = pool.vdis.path(uuidOf(pool.db.get('VDI', vbd['VDI']))).replace(/,/g, ',,');
  const boot = vbd['bootable'] === true || position === 0 ? `,bootindex=${position}` : '';
  const device = isCd ? `ide-cd,${bus}` : diskDevice(firmware, position, bus);
  return [
    ...['-drive', `if=none,id=${id},format=raw,cache=writeback,file=${path}${readOnly}`],
    ...['-device', `${device},drive=${id}${boot}`],
  ];
}

/** NVMe for UEFI guests (through IDE, OVMF reads a kernel for a quarter of a minute), else IDE, else virtio. */
function diskDevice(firmware: string, position: number, bus: string): string {
  if (firmware === 'uefi') return `nvme,serial=disk${position}`;
  return position < IDE_POSITIONS ? `ide-hd,${bus}` : 'virtio-blk-pci';
}

/** A card on a hub of its own: a link that is up and leads nowhere. */
function nicArguments(pool: Pool, vif: Row): string[] {
  const number = Number(vif['device']);
  return [
    ...['-netdev', `hubport,id=net${number},hubid=${number}`],
    ...['-device', `virtio-net-pci,netdev=net${number},mac=${textOf(vif, 'MAC')},romfile=`],
  ];
}
