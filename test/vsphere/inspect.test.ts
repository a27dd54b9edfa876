import https from 'node:https';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pinnedTlsOptions, trustFor } from '../../src/shared/pinned-tls.js';
import type { Vsphere } from '../../src/vsphere/index.js';
import { moRefOf, plainVm, startTestLab, type TestLab } from './lab.js';

describe('inventory', () => {
  let lab: TestLab;
  let vsphere: Vsphere;
  beforeAll(async () => {
    lab = await startTestLab({
      datastores: [{ name: 'datastore1' }, { name: 'my files', type: 'NFS' }],
      vms: [
        plainVm('web01', {
          firmware: 'efi',
          secureBoot: true,
          cpus: 2,
          memoryMiB: 1024,
          datastore: 'my files',
          nics: [{ type: 'e1000', mac: '00:50:56:00:00:0A' }],
          cdroms: [{}],
          disks: [
            { capacityBytes: 2 << 20, controller: 'nvme' },
            { capacityBytes: (3 << 20) + 512, controller: 'ide' },
          ],
        }),
        plainVm('plain'),
        plainVm('shut', { poweredOn: false, tools: 'none' }),
      ],
    });
    vsphere = lab.connect();
  });
  afterAll(() => lab?.end());

  const inspect = async (name: string) => vsphere.inspectVm({ vmMoRef: await moRefOf(vsphere, name) });

  it('lists VMs by path and name, with sizes and states', async () => {
    const vms = await vsphere.listVms();
    expect(vms.map(({ name }) => name)).toEqual([...vms.map(({ name }) => name)].sort());
    expect(vms.find(({ name }) => name === 'web01')).toMatchObject({
      folderPath: 'DC0/vm',
      powerState: 'poweredOn',
      toolsStatus: 'running',
      diskCount: 2,
      diskTotalBytes: (5 << 20) + 512,
    });
    expect(vms.find(({ name }) => name === 'shut')).toMatchObject({
      powerState: 'poweredOff',
      toolsStatus: 'notInstalled',
    });
  });

  it("[S82] inspects a VM: hardware, disks in the guest's order, cards, Tools, boot time", async () => {
    const vm = await inspect('web01');
    expect(vm).toMatchObject({
      name: 'web01',
      datacenterPath: 'DC0',
      firmware: 'uefi',
      secureBoot: true,
      cpuCount: 2,
      memoryBytes: 1024 << 20,
      isWindows: false,
      hardwareVersion: 19,
      changeTrackingSupported: true,
      tools: { installed: true, running: true },
      nics: [{ mac: '00:50:56:00:00:0a', type: 'e1000', networkName: 'VM Network' }],
      snapshots: [],
    });
    expect(vm.disks).toMatchObject([
      { label: 'Hard disk 2', controllerType: 'ide', capacityBytes: (3 << 20) + 512, kind: 'flat' },
      { label: 'Hard disk 1', controllerType: 'nvme', datastore: { name: 'my files', type: 'NFS', accessible: true } },
    ]);
    expect(Date.parse(vm.bootTime ?? '')).toBeLessThanOrEqual(Date.now());
    await lab.admin.reboot('web01');
    const later = (await inspect('web01')).bootTime ?? '';
    expect(Date.parse(later)).toBeGreaterThan(Date.parse(vm.bootTime ?? ''));
    expect((await inspect('shut')).bootTime).toBeUndefined();
  });

  it('[S19] sees the empty CD drive', async () => {
    expect((await inspect('web01')).hasCdDrive).toBe(true);
    expect((await inspect('plain')).hasCdDrive).toBe(false);
  });

  it('[S81] sees that Tools are gone', async () => {
    await lab.admin.setTools('plain', 'none');
    expect((await inspect('plain')).tools).toMatchObject({ installed: false, running: false });
    await lab.admin.setTools('plain', 'running');
  });

  it("gives the address of a frozen base disk, readable with the session's cookie and nothing else", async () => {
    const vmMoRef = await moRefOf(vsphere, 'web01');
    const { snapshotMoRef } = await vsphere.ensureSnapshot({ vmMoRef, name: 's', ownerId: 'x' });
    const [disk] = await vsphere.snapshotDisks({ snapshotMoRef });
    const url = vsphere.diskUrl({ baseFileName: disk?.baseFileName ?? '', datacenterPath: 'DC0' });
    expect(url).toContain('/folder/web01/web01-flat.vmdk?dcPath=DC0&dsName=my%20files');
    const tls = pinnedTlsOptions(await trustFor(lab));
    const head = (headers: object) =>
      new Promise<[number | undefined, number]>((resolve, reject) => {
        const request = https.request(url, { ...tls, method: 'HEAD', headers: { ...headers }, agent: false }, (r) =>
          resolve([r.statusCode, Number(r.headers['content-length'])]),
        );
        request.on('error', reject);
        request.end();
      });
    expect(await head({ Cookie: await vsphere.sessionCookie() })).toEqual([200, 2 << 20]);
    expect((await head({}))[0]).toBe(401);
    expect(() => vsphere.diskUrl({ baseFileName: 'naa.6000', datacenterPath: 'DC0' })).toThrow(
      'no disk on a datastore',
    );
  });
});

describe('a large inventory', () => {
  let lab: TestLab;
  beforeAll(async () => {
    const names = Array.from({ length: 105 }, (_unused, index) => `vm${String(index).padStart(3, '0')}`);
    lab = await startTestLab({ vms: names.map((name) => plainVm(name, { disks: [], poweredOn: false })) });
  });
  afterAll(() => lab?.end());

  it('comes in pages, and complete', async () => {
    const vms = await lab.connect().listVms();
    expect(vms.map(({ name }) => name)).toEqual(vms.map((_vm, index) => `vm${String(index).padStart(3, '0')}`));
    expect(vms).toHaveLength(105);
    expect((await lab.admin.calls()).map(({ method }) => method)).toContain('ContinueRetrievePropertiesEx');
  });
});
