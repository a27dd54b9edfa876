import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { makeBootDisk } from '../../lab/disks/disks.js';
import { XcpngAdmin } from '../../lab/xcpng/admin.js';
import { startXcpng, type XcpngLab } from '../../lab/xcpng/start.js';
import { ApiClient, chunkHeader, until } from './xcpng-client.js';

const MIB = 1024 ** 2;
const BOOT_MS = 120_000;
const BOOT_DISK_BYTES = 46 * MIB;

let stateDir: string;
let lab: XcpngLab | undefined;

beforeAll(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'surefire-xcpng-'));
});
afterEach(async () => {
  await lab?.stop();
  lab = undefined;
});
afterAll(async () => {
  await rm(stateDir, { recursive: true, force: true });
});

async function start(): Promise<{ api: ApiClient; admin: XcpngAdmin; lab: XcpngLab }> {
  lab = await startXcpng({ stateDir });
  return { api: await ApiClient.connect(lab), admin: new XcpngAdmin(lab.adminUrl), lab };
}

describe('the pool as a process', () => {
  it('goes on after kill -9 where it was: objects, certificate, bytes, and the VBD of a broken import', async () => {
    const first = await start();
    const vdi = await first.api.createVdi(4 * MIB, { name_label: 'survivor' });
    const { socket, answer } = await first.api.openImport(vdi, { chunked: 'true' });
    socket.write(Buffer.concat([chunkHeader(0, 2 * MIB), Buffer.alloc(2 * MIB, 1), chunkHeader(2 * MIB, MIB)]));
    await until(async () => (await first.admin.imports())[0]?.chunks[1]);
    await until(async () => ((await first.admin.imports())[0]?.writtenBytes === 2 * MIB ? true : undefined));
    const { pid } = first.lab;
    await first.lab.kill('SIGKILL');
    await answer;
    await first.lab.restart();
    expect(first.lab.pid).not.toBe(pid);
    const second = { api: await ApiClient.connect(first.lab), admin: new XcpngAdmin(first.lab.adminUrl) };
    const [broken] = await second.admin.imports();
    expect(broken).toMatchObject({ outcome: 'crash', writtenBytes: 2 * MIB });
    expect(broken?.chunks).toEqual([
      { offset: 0, length: 2 * MIB },
      { offset: 2 * MIB, length: MIB },
    ]);
    expect(Date.parse(broken?.lastWriteAt ?? '')).toBeGreaterThanOrEqual(Date.parse(broken?.startedAt ?? ''));
    expect(await second.api.call('VDI.get_name_label', vdi)).toBe('survivor');
    const [vbd = ''] = await second.api.call<string[]>('VDI.get_VBDs', vdi);
    expect(await second.api.call('VBD.get_currently_attached', vbd)).toBe(true);
    const place = (await second.admin.vdis())[await second.api.call('VDI.get_uuid', vdi)];
    expect((await readFile(place?.path ?? ''))[2 * MIB - 1]).toBe(1);
    expect((await second.admin.calls()).map((call) => call.method)).toContain('VDI.get_name_label');
  });

  it('ends by itself on SIGTERM', async () => {
    const running = await start();
    expect(await running.lab.kill('SIGTERM')).toBe(0);
    expect(() => process.kill(running.lab.pid, 0)).toThrow();
  });
});

describe('a real boot', () => {
  it.each(['bios', 'uefi'] as const)(
    'runs a %s VM on its own VDI, hears the guest, keeps its console, and follows its power button',
    async (firmware) => {
      const { api, admin } = await start();
      const { vm } = await vmFrom(api, firmware);
      await api.call('VM.start', vm, false, false);
      const uuid = await api.call('VM.get_uuid', vm);
      const place = (await admin.vms())[uuid];
      const console = await until(async () => {
        const text = await readFile(place?.consolePath ?? '', 'utf8');
        return text.includes('GUESTMETRICS') ? text : undefined;
      }, BOOT_MS);
      expect(console).toMatch(/=== start \d{8}T/);
      expect(console).toContain(`nonce=test-${firmware} firmware=${firmware}`);
      expect(console).toContain('payload=ok');
      const metrics = await until(async () => {
        const ref = await api.call('VM.get_guest_metrics', vm);
        return ref === 'OpaqueRef:NULL' ? undefined : ref;
      }, BOOT_MS);
      expect(await api.call('VM_guest_metrics.get_networks', metrics)).toEqual({ '0/ip': '10.1.2.3' });
      expect(await api.call('VM.get_power_state', vm)).toBe('Running');
      const picture = await api.request('GET', `/vncsnapshot?session_id=${api.session}&uuid=${uuid}`);
      expect(picture.text.startsWith('\x89PNG')).toBe(true);
      await api.taskEnd(await api.call('Async.VM.clean_shutdown', vm), BOOT_MS);
      expect(await api.call('VM.get_power_state', vm)).toBe('Halted');
      expect(await api.call('VM.get_guest_metrics', vm)).toBe('OpaqueRef:NULL');
      expect((await admin.vms())[uuid]?.pid).toBeUndefined();
    },
  );

  it('starts a VM although an import writes to its disk; its process dies with the pool, and it is Halted afterwards', async () => {
    const { api, admin, lab: first } = await start();
    const { vm, vdi } = await vmFrom(api, 'bios');
    const { answer } = await api.openImport(vdi, { chunked: 'true' });
    await until(async () => ((await api.call<string[]>('VDI.get_VBDs', vdi)).length === 2 ? true : undefined));
    await api.call('VM.start', vm, true, false);
    expect(await api.call('VM.get_power_state', vm)).toBe('Paused');
    await expect(api.call('VM.start', vm, false, false)).rejects.toMatchObject({ code: 'VM_BAD_POWER_STATE' });
    const { pid = 0 } = (await admin.vms())[await api.call('VM.get_uuid', vm)] ?? {};
    expect(pid).toBeGreaterThan(0);
    await first.kill();
    await answer;
    await until(() => (isAlive(pid) ? undefined : true));
    const second = await start();
    expect(await second.api.call('VM.get_power_state', vm)).toBe('Halted');
  });
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** A VM whose disk is one of the lab's bootable templates, told to stay up. */
async function vmFrom(api: ApiClient, firmware: 'bios' | 'uefi'): Promise<{ vm: string; vdi: string }> {
  const vdi = await api.createVdi(BOOT_DISK_BYTES);
  const place = (await new XcpngAdmin(lab?.adminUrl ?? '').vdis())[await api.call('VDI.get_uuid', vdi)];
  const made = await makeBootDisk({ firmware, path: place?.path ?? '', nonce: `test-${firmware}` });
  expect(made.sizeBytes).toBe(BOOT_DISK_BYTES);
  const vm = await api.createVm({ name_label: firmware, HVM_boot_params: { order: 'c', firmware } });
  await api.createVbd(vm, vdi);
  const network = await api.call('network.create', { name_label: 'isolated', other_config: {} });
  const qos = { qos_algorithm_type: '', qos_algorithm_params: {} };
  const MAC = '00:50:56:01:02:03';
  await api.call('VIF.create', { device: '0', network, VM: vm, MAC, MTU: 1500, other_config: {}, ...qos });
  return { vm, vdi };
}
