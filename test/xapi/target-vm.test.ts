import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { imageFormat, VHD_LIMIT_BYTES, type Xapi } from '../../src/xapi/index.js';
import { errorOf, MIB, startTestPool, uuidOfSr, type TestPool } from './lab.js';
import { diskSpec, MACS, vmSpec } from './specs.js';

let pool: TestPool;
let xapi: Xapi;
beforeAll(async () => {
  pool = await startTestPool();
  xapi = pool.connect();
});
afterAll(() => pool.end());

const owned = async (type: string, migrationId: string) =>
  (await pool.records(type)).filter(([, record]) => record.other_config['surefire:migration'] === migrationId);
const linked = async (vmUuid: string, type: 'VBD' | 'VIF') => {
  const vm = await pool.record('VM', vmUuid);
  const all = new Map(await pool.records(type));
  return (vm[`${type}s`] as string[]).map((ref) => all.get(ref)!);
};

describe('createTargetVm', () => {
  it('[S98] [S100] makes a VM that says it is being imported and cannot be started either way', async () => {
    const { vmUuid } = await xapi.createTargetVm(await vmSpec(pool, { migrationId: 'm-block' }));
    expect(await pool.record('VM', vmUuid)).toMatchObject({ name_label: '[Importing...] web01', is_a_template: false });
    expect(await xapi.isBlocked(vmUuid)).toBe(true);
    expect(await errorOf(xapi.startVm(vmUuid))).toMatchObject({ type: 'TargetRefused', nonRetryable: true });
    const ref = await pool.raw.call('VM.get_by_uuid', vmUuid);
    const [host] = (await pool.records('host'))[0]!;
    const error = await errorOf(pool.raw.call('VM.start_on', ref, host, false, false));
    expect(error.message).toContain('m-block is still being copied');
    await xapi.renameVm(vmUuid, 'web01');
    await xapi.unblockStart(vmUuid);
    expect(await pool.record('VM', vmUuid)).toMatchObject({ name_label: 'web01', blocked_operations: {} });
    expect(await xapi.isBlocked(vmUuid)).toBe(false);
  });

  it.each([
    ['bios', 'qemu-upstream-compat'],
    ['uefi', 'qemu-upstream-uefi'],
  ] as const)('[S16] keeps %s firmware and never forces Secure Boot', async (firmware, model) => {
    const { vmUuid } = await xapi.createTargetVm(await vmSpec(pool, { migrationId: `m-${firmware}`, firmware }));
    expect(await pool.record('VM', vmUuid)).toMatchObject({
      HVM_boot_params: { firmware },
      platform: { 'device-model': model, secureboot: 'false', 'cores-per-socket': '2' },
      has_vendor_device: false,
      VCPUs_max: 4,
      memory_static_max: 512 * MIB,
    });
  });

  it('takes Windows Server for a Windows guest, and one core per socket where the count does not divide', async () => {
    const spec = await vmSpec(pool, { migrationId: 'm-win', isWindows: true, cpuCount: 3, coresPerSocket: 2 });
    const { vmUuid } = await xapi.createTargetVm(spec);
    const vm = await pool.record('VM', vmUuid);
    expect(vm['platform']).toMatchObject({ viridian: 'true', viridian_time_ref_count: 'true' });
    expect(vm['platform']).not.toHaveProperty('cores-per-socket');
    expect(vm['reference_label']).toMatch(/^windows-server/);
  });

  it('keeps the MACs in order on the mapped networks, and [S19] an empty CD drive', async () => {
    const spec = await vmSpec(pool, { migrationId: 'm-devices' });
    const { vmUuid } = await xapi.createTargetVm(spec);
    const vifs = await linked(vmUuid, 'VIF');
    expect(vifs.map((vif) => [vif['device'], vif['MAC']])).toEqual(MACS.map((mac, index) => [String(index), mac]));
    const [cd, ...others] = await linked(vmUuid, 'VBD');
    expect(others).toEqual([]);
    expect(cd).toMatchObject({ type: 'CD', empty: true, VDI: 'OpaqueRef:NULL', mode: 'RO', userdevice: '3' });
  });

  it('[S15] makes one VM and one disk however often it is run, and mends what a crash left out', async () => {
    const spec = await vmSpec(pool, { migrationId: 'm-once' });
    const first = await xapi.createTargetVm(spec);
    const [vif] = (await pool.record('VM', first.vmUuid))['VIFs'] as string[];
    await pool.raw.call('VIF.destroy', vif);
    await xapi.unblockStart(first.vmUuid);
    const disk = await diskSpec(pool, first.vmUuid, { migrationId: 'm-once' });
    const made = await xapi.createTargetDisk(disk);
    const [, vbd] = (await pool.record('VM', first.vmUuid))['VBDs'] as string[];
    await pool.raw.call('VBD.destroy', vbd);
    for (let round = 0; round < 3; round++) {
      expect(await xapi.createTargetVm(spec)).toEqual(first);
      expect(await xapi.createTargetDisk(disk)).toEqual(made);
    }
    expect(await owned('VM', 'm-once')).toHaveLength(1);
    expect(await owned('VDI', 'm-once')).toHaveLength(1);
    expect(await xapi.isBlocked(first.vmUuid)).toBe(true);
    expect((await linked(first.vmUuid, 'VIF')).map((card) => card['MAC']).sort()).toEqual(MACS);
    expect(await linked(first.vmUuid, 'VBD')).toHaveLength(2);
  });

  it('is not misled by a snapshot or a clone, which carry the same marks (R16)', async () => {
    const spec = await vmSpec(pool, { migrationId: 'm-copies' });
    const { vmUuid } = await xapi.createTargetVm(spec);
    const disk = await diskSpec(pool, vmUuid, { migrationId: 'm-copies' });
    const made = await xapi.createTargetDisk(disk);
    const ref = await pool.raw.call('VM.get_by_uuid', vmUuid);
    await pool.raw.call('VM.snapshot', ref, 'theirs', []);
    await pool.raw.call('VM.clone', ref, 'copy');
    expect(await owned('VM', 'm-copies')).toHaveLength(3);
    expect((await xapi.createTargetVm(spec)).vmUuid).toBe(vmUuid);
    expect((await xapi.createTargetDisk(disk)).vdiUuid).toBe(made.vdiUuid);
  });
});

describe('createTargetDisk', () => {
  it('reads the size back that the SR rounded up to, and leaves position 3 to the CD drive', async () => {
    const { vmUuid } = await xapi.createTargetVm(await vmSpec(pool, { migrationId: 'm-disks' }));
    const sizes = [];
    for (let index = 0; index < 5; index++) {
      const spec = await diskSpec(pool, vmUuid, {
        migrationId: 'm-disks',
        deviceKey: 2000 + index,
        index,
        virtualSizeBytes: 3 * MIB + 512,
      });
      sizes.push((await xapi.createTargetDisk(spec)).virtualSizeBytes);
    }
    expect(sizes).toEqual(Array(5).fill(4 * MIB));
    const disks = (await linked(vmUuid, 'VBD')).filter((vbd) => vbd['type'] === 'Disk');
    expect(disks.map((vbd) => [vbd['userdevice'], vbd['bootable']])).toEqual([
      ['0', true],
      ['1', false],
      ['2', false],
      ['4', false],
      ['5', false],
    ]);
  });

  it('[S10] chooses qcow2 only above the VHD limit', () => {
    expect(VHD_LIMIT_BYTES).toBe(2040 * 2 ** 30);
    expect([-512, -1, 0, 1, 512].map((more) => imageFormat(VHD_LIMIT_BYTES + more))).toEqual([
      'vhd',
      'vhd',
      'vhd',
      'qcow2',
      'qcow2',
    ]);
  });

  it('[S9] carries a disk of 3 TiB to an SR that knows qcow2', async () => {
    const { vmUuid } = await xapi.createTargetVm(await vmSpec(pool, { migrationId: 'm-big' }));
    const spec = await diskSpec(pool, vmUuid, { migrationId: 'm-big', virtualSizeBytes: 3 * 2 ** 40 });
    const made = await xapi.createTargetDisk(spec);
    expect(made.virtualSizeBytes).toBe(3 * 2 ** 40);
    expect((await pool.record('VDI', made.vdiUuid))['sm_config']).toMatchObject({ 'image-format': 'qcow2' });
    await xapi.destroyOwned('m-big');
  });

  it('says SrOutOfSpace, not to be tried again, when a thick SR has no room', async () => {
    const { vmUuid } = await xapi.createTargetVm(await vmSpec(pool, { migrationId: 'm-full' }));
    const srUuid = await uuidOfSr(pool, 'Local thick');
    const spec = await diskSpec(pool, vmUuid, { migrationId: 'm-full', srUuid, virtualSizeBytes: 100 * 2 ** 30 });
    const error = await errorOf(xapi.createTargetDisk(spec));
    expect(error).toMatchObject({ type: 'SrOutOfSpace', nonRetryable: true });
    expect(error.message).toContain('Next: free space on the SR');
  });

  it('puts an empty disk in the place of a doubted one, also when it is asked twice (R8)', async () => {
    const { vmUuid } = await xapi.createTargetVm(await vmSpec(pool, { migrationId: 'm-doubt' }));
    const spec = await diskSpec(pool, vmUuid, { migrationId: 'm-doubt', index: 1, deviceKey: 2001 });
    const doubted = await xapi.createTargetDisk(spec);
    const fresh = await xapi.replaceDisk(doubted.vdiUuid, spec);
    expect(fresh.vdiUuid).not.toBe(doubted.vdiUuid);
    expect(await xapi.replaceDisk(doubted.vdiUuid, spec)).toEqual(fresh);
    expect((await owned('VDI', 'm-doubt')).map(([, vdi]) => vdi.uuid)).toEqual([fresh.vdiUuid]);
    const disks = (await linked(vmUuid, 'VBD')).filter((vbd) => vbd['type'] === 'Disk');
    expect(disks.map((vbd) => vbd['userdevice'])).toEqual(['1']);
  });
});

describe('finding things', () => {
  it('finds by name and by uuid, and lists what there is when there is none', async () => {
    const sr = await xapi.findSr('Local thin');
    expect(sr).toMatchObject({ name: 'Local thin', type: 'ext', thick: false, formats: ['vhd', 'qcow2'] });
    expect((await xapi.findSr(sr.uuid)).name).toBe('Local thin');
    expect((await xapi.findSr('Local thick')).thick).toBe(true);
    const error = await errorOf(xapi.findSr('Local'));
    expect(error).toMatchObject({ type: 'TargetNotFound' });
    expect(error.message).toContain(`"Local thin" (${sr.uuid})`);
  });

  it('lists all that match when a name is not unique', async () => {
    for (const bridge of ['', '']) {
      await pool.raw.call('network.create', {
        name_label: 'twin',
        name_description: '',
        MTU: 1500,
        bridge,
        other_config: {},
        tags: [],
      });
    }
    const error = await errorOf(xapi.findNetwork('twin'));
    expect(error.message).toMatch(/"twin" matches 2 of network: "twin" \(.+\), "twin" \(.+\)/);
    expect(error.message).toContain('Next: use the uuid.');
  });
});
