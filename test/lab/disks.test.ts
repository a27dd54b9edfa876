import { createHash } from 'node:crypto';
import { mkdtemp, open, readFile, rm, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeBootDisk, makeDataDisk } from '../../lab/disks/disks.js';
import { seededBytes } from '../../lab/disks/random.js';

const OVMF = '/usr/share/ovmf/OVMF.fd';
let home: string;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'surefire-disks-'));
});
afterAll(() => rm(home, { recursive: true, force: true }));

interface Boot {
  firmware: 'bios' | 'uefi';
  disks: string[];
  /** Press the power button once the guest has said its GUESTMETRICS. */
  pressPowerButton?: boolean;
}

/** Boots in qemu until the guest powers off; returns what its serial console said. */
async function boot({ firmware, disks, pressPowerButton = false }: Boot): Promise<string> {
  const qemu = execa(
    'qemu-system-x86_64',
    [
      ...['-accel', 'tcg', '-m', '256', '-display', 'none', '-no-reboot', '-serial', 'stdio'],
      ...['-monitor', `unix:${join(home, 'monitor')},server,nowait`],
      ...(firmware === 'uefi' ? ['-bios', OVMF] : []),
      ...['-nic', 'user,restrict=on,model=virtio-net-pci,mac=00:50:56:01:02:fe'],
      ...disks.flatMap((disk) => ['-drive', `file=${disk},format=raw,if=virtio`]),
    ],
    { timeout: 280_000, stdin: 'ignore' },
  );
  let console_ = '';
  qemu.stdout.on('data', (chunk: Buffer) => (console_ += chunk.toString()));
  // The guest opens its button a moment after that line; a press before that is lost, so press until it goes. And qemu has
  // to be woken now and then, as in lab/xcpng/machines.ts.
  const asking = setInterval(() => {
    const isTime = pressPowerButton && console_.includes('GUESTMETRICS');
    const monitor = connect(join(home, 'monitor')).on('error', () => undefined);
    monitor.write(isTime ? 'system_powerdown\n' : 'info status\n');
    monitor.once('data', () => monitor.end());
  }, 1000);
  try {
    await qemu;
  } finally {
    clearInterval(asking);
  }
  return console_;
}

async function sha256(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
}

describe('boot disks', () => {
  it('boots by BIOS, says who it is, counts its boots, and obeys the power button', async () => {
    const disk = await makeBootDisk({ firmware: 'bios', path: join(home, 'bios.raw'), nonce: 'bios-1' });
    const data = await makeDataDisk({ path: join(home, 'data.raw'), sizeBytes: 20 * 1024 ** 2 + 512 * 13, seed: 'd' });
    const note = Buffer.from('written from outside');
    const handle = await open(disk.path, 'r+');
    await handle.write(note, 0, note.length, disk.scratch.offset);
    await handle.close();
    const untouched = [await sha256(disk.path), await sha256(data.path)];

    const said = await boot({ firmware: 'bios', disks: [disk.path, data.path], pressPowerButton: true });
    const scratch = Buffer.alloc(disk.scratch.length);
    note.copy(scratch);
    const notes = createHash('sha256').update(scratch).digest('hex').slice(0, 16);
    expect(said).toContain(
      `BOOTPROOF nonce=bios-1 firmware=bios disk=/dev/vda2 payload=ok data=ok notes=${notes} boots=1`,
    );
    const metrics = JSON.parse(/^GUESTMETRICS (.*)$/m.exec(said)?.[1] ?? '') as Record<string, unknown>;
    expect(metrics).toMatchObject({
      os_version: { name: 'Surefire test guest' },
      networks: { '0/ip': '10.1.2.254' },
      PV_drivers_detected: true,
    });
    expect(said).toContain('GUESTSHUTDOWN');
    expect(await sha256(disk.path), 'booting leaves traces in the root').not.toBe(untouched[0]);
    expect(await sha256(data.path), 'booting leaves none on the data disk').toBe(untouched[1]);

    expect(await boot({ firmware: 'bios', disks: [disk.path], pressPowerButton: true })).toContain('data=none');
  });

  it('boots by UEFI and powers off at once when not told to stay', async () => {
    const path = join(home, 'uefi.raw');
    await makeBootDisk({ firmware: 'uefi', path, nonce: 'uefi-1', stay: false });
    const said = await boot({ firmware: 'uefi', disks: [path] });
    expect(said).toMatch(/BOOTPROOF nonce=uefi-1 firmware=uefi disk=\/dev\/vda2 payload=ok .* boots=1/);
    expect(await boot({ firmware: 'uefi', disks: [path] })).toContain('boots=2');
  });

  it('notices a damaged payload', async () => {
    const path = join(home, 'damaged.raw');
    await makeBootDisk({ firmware: 'bios', path, nonce: 'damaged', stay: false });
    const content = await readFile(path);
    const payload = seededBytes('payload damaged', 4096);
    const at = content.indexOf(payload.subarray(0, 1024));
    expect(at).toBeGreaterThan(0);
    const handle = await open(path, 'r+');
    await handle.write(Buffer.alloc(512), 0, 512, at);
    await handle.close();
    expect(await boot({ firmware: 'bios', disks: [path] })).toContain('payload=BAD');
  });
});

describe('data disks', () => {
  it('has an odd size, holes, and data in its last sector', async () => {
    const sizeBytes = 40 * 1024 ** 2 + 512 * 77;
    const { path, scratch } = await makeDataDisk({ path: join(home, 'odd.raw'), sizeBytes, seed: 'odd' });
    const { size, blocks } = await stat(path);
    expect(size).toBe(sizeBytes);
    expect(blocks * 512).toBeLessThan(sizeBytes / 2);
    const content = await readFile(path);
    expect(content.subarray(-512).every((byte) => byte === 0)).toBe(false);
    expect(content.subarray(scratch.offset, scratch.offset + scratch.length).every((byte) => byte === 0)).toBe(true);
  });

  it('refuses a size that is no multiple of 512', async () => {
    await expect(makeDataDisk({ path: join(home, 'no.raw'), sizeBytes: 10_000_001, seed: 'x' })).rejects.toThrow(
      /10000001 bytes cannot be made/,
    );
  });
});
