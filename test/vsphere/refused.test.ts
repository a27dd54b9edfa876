import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { VsphereDisk, VsphereVm } from '../../lab/vsphere/scenario.js';
import type { Finding } from '../../src/shared/index.js';
import { findSourceProblems, type Vsphere } from '../../src/vsphere/index.js';
import { moRefOf, plainVm, startTestLab, type TestLab } from './lab.js';

const disk: VsphereDisk = { capacityBytes: 1 << 20 };
/** A VM about which nothing is to be said, but for what is changed. */
const vm = (name: string, changes: Partial<VsphereVm> = {}) => plainVm(name, { changeTracking: true, ...changes });
const shown = (type: string, fields = {}): VsphereDisk => ({ ...disk, shown: { type, fields } });

/** The table of what is refused, noticed or told: each row as the server shows it. */
const ROWS: [vm: VsphereVm, expected: string[]][] = [
  [vm('plain'), []],
  [vm('stopped', { poweredOn: false }), []],
  [vm('rdm', { disks: [disk, { ...disk, rdm: 'physicalMode' }] }), ['D1 error']],
  [vm('rdm-virtual', { disks: [disk, { ...disk, rdm: 'virtualMode' }] }), ['D2 error']],
  [vm('independent', { disks: [{ ...disk, mode: 'independent_persistent' }] }), ['D3 error']],
  [vm('volatile', { disks: [{ ...disk, mode: 'independent_nonpersistent' }] }), ['D3 error']],
  [vm('forgetful', { disks: [{ ...disk, mode: 'nonpersistent' }] }), ['D4 error']],
  [vm('cluster', { disks: [{ ...disk, multiWriter: true }] }), ['D5 error']],
  [vm('bus', { disks: [{ ...disk, sharedBus: 'physicalSharing' }] }), ['D6 error']],
  [vm('bus-virtual', { disks: [{ ...disk, sharedBus: 'virtualSharing' }] }), ['D6 error']],
  [vm('ciphered', { disks: [{ ...disk, encrypted: true }] }), ['D7 error']],
  [vm('sealed', { encrypted: true }), ['V19 error']],
  [vm('tpm', { vtpm: true }), ['V19 error']],
  [vm('on-vsan', { datastore: 'vsan1' }), ['D10 warning']],
  [vm('on-vvol', { datastore: 'vvol1' }), ['D11 warning']],
  [vm('pmem', { disks: [shown('VirtualDiskLocalPMemBackingInfo')] }), ['D12 error']],
  [
    vm('clone', {
      disks: [
        shown('VirtualDiskFlatVer2BackingInfo', {
          Parent: { FileName: '[datastore1] gold/gold.vmdk', DiskMode: 'persistent' },
        }),
      ],
    }),
    ['D13 warning'],
  ],
  [vm('se', { disks: [shown('VirtualDiskSeSparseBackingInfo')] }), ['D14 info']],
  [vm('old', { disks: [shown('VirtualDiskSparseVer2BackingInfo')] }), ['D15 warning']],
  [vm('older', { disks: [shown('VirtualDiskFlatVer1BackingInfo')] }), ['D15 warning']],
  [vm('odd', { disks: [shown('VirtualDeviceFileBackingInfo')] }), ['D16 error']],
  [vm('nvme', { disks: [{ ...disk, controller: 'nvme' }] }), ['D17 info']],
  [vm('lost', { datastore: 'broken' }), ['D18 error']],
  [
    vm('twins', {
      disks: [disk, shown('VirtualDiskFlatVer2BackingInfo', { FileName: '[datastore1] twins/twins.vmdk' })],
    }),
    ['D20 error', 'D20 error'],
  ],
  [vm('with-snapshot'), ['V1 warning']],
  [vm('fragmented'), ['V2 warning']],
  [plainVm('untracked'), ['V3 info']],
  [vm('ancient', { version: 'vmx-04', changeTracking: false }), ['V4 warning']],
  [vm('template', { poweredOn: false }), ['V6 error']],
  [vm('asleep'), ['V7 error']],
  [vm('gone'), ['V8 error']],
  [vm('asking'), ['V9 error']],
  [vm('toolless', { tools: 'none' }), ['V10 warning']],
  [vm('mirrored'), ['V11 error']],
  [vm('with-gpu', { devices: ['VirtualPCIPassthrough'] }), ['V12 error']],
  [vm('with-serial', { devices: ['VirtualSerialPort'] }), ['V12 warning']],
  [vm('held'), ['V14 error']],
  [vm('managed'), ['V15 warning']],
  [vm('crammed', { datastore: 'full' }), ['V16 error']],
  [vm('marked'), ['V18 error']],
  [vm('uefi', { firmware: 'efi' }), ['V20 info']],
  [vm('secure', { firmware: 'efi', secureBoot: true }), ['V20 warning']],
  [vm('diskless', { disks: [] }), ['V4 warning', 'V21 error']],
  [vm('windows', { guestId: 'windows2019srv_64Guest', nics: [{ type: 'vmxnet3' }] }), ['V22 warning', 'V23 warning']],
];

describe('what a vCenter shows', () => {
  let lab: TestLab;
  let vsphere: Vsphere;
  let moRefs: Map<string, string>;
  /** What was found about each VM, in one look. */
  const seen = new Map<string, Finding[]>();
  let methods: string[];
  beforeAll(async () => {
    lab = await startTestLab({
      datastores: [
        { name: 'datastore1' },
        { name: 'vsan1', type: 'vsan' },
        { name: 'vvol1', type: 'VVOL' },
        { name: 'broken' },
        { name: 'full', freeSpace: 1 << 20 },
      ],
      vms: ROWS.map(([spec]) => spec),
    });
    vsphere = lab.connect();
    const { admin } = lab;
    await admin.setProperty('broken', 'summary.accessible', false);
    await vsphere.ensureSnapshot({ vmMoRef: await moRefOf(vsphere, 'with-snapshot'), name: 'old', ownerId: 'x' });
    await admin.setProperty('fragmented', 'runtime.consolidationNeeded', true);
    await admin.setProperty('template', 'config.template', true);
    await admin.setProperty('asleep', 'runtime.powerState', 'suspended');
    await admin.setProperty('gone', 'runtime.connectionState', 'inaccessible');
    await admin.setProperty('asking', 'runtime.question', { id: '1', text: 'moved or copied?' });
    await admin.setProperty('mirrored', 'runtime.faultToleranceState', 'running');
    await admin.setProperty('held', 'disabledMethod', ['CreateSnapshot_Task']);
    await admin.setProperty('managed', 'config.managedBy', { extensionKey: 'com.example.vdi', type: 'desktop' });
    await vsphere.setMark({ vmMoRef: await moRefOf(vsphere, 'marked'), mark: 'done' });
    moRefs = new Map((await vsphere.listVms()).map(({ name, moRef }) => [name, moRef]));
    await admin.clearCalls();
    for (const [{ name }] of ROWS) seen.set(name, await findings(name));
    methods = (await admin.calls()).map(({ method }) => method);
  });
  afterAll(() => lab?.end());

  const findings = async (name: string) =>
    findSourceProblems(await vsphere.inspectVm({ vmMoRef: moRefs.get(name) ?? '' }));

  it.each(ROWS.map(([{ name }, expected]) => [name, expected] as const))(
    '[S67] [S68] [S69] [S70] is judged by the table: %s, %j',
    (name, expected) => {
      expect(seen.get(name)?.map(({ code, severity }) => `${code} ${severity}`)).toEqual(expected);
    },
  );

  it('[S123] points to the other ways for every disk it refuses', () => {
    for (const [{ name }, [first = '']] of ROWS.filter(([, [code]]) => /^(D|V19).* error$/.test(code ?? ''))) {
      const found = seen.get(name)?.filter(({ code }) => first.startsWith(`${code} `));
      expect(found?.map(({ remedy }) => remedy).join(), name).toContain('https://docs.xcp-ng.org/');
    }
  });

  it('says of a host that it is in maintenance, or lost', async () => {
    await lab.admin.setProperty('127.0.0.1', 'runtime.inMaintenanceMode', true);
    expect(await findings('plain')).toMatchObject([
      { code: 'V13', observed: 'Its host 127.0.0.1 is in maintenance mode.' },
    ]);
    await lab.admin.setProperty('127.0.0.1', 'runtime.inMaintenanceMode', false);
    await lab.admin.setProperty('127.0.0.1', 'runtime.connectionState', 'notResponding');
    expect((await findings('plain'))[0]?.observed).toBe('Its host 127.0.0.1 is not connected to vCenter.');
    await lab.admin.setProperty('127.0.0.1', 'runtime.connectionState', 'connected');
  });

  it('changes nothing by looking', () => {
    expect([...new Set(methods)].sort()).toEqual(['RetrievePropertiesEx']);
  });
});

describe('[S72] the account', () => {
  let lab: TestLab;
  beforeAll(async () => {
    lab = await startTestLab({ vms: [] });
  });
  afterAll(() => lab?.end());

  it('is told of each right it lacks, and for what it is needed', async () => {
    const vsphere = lab.connect();
    expect(await vsphere.checkPrivileges()).toEqual([]);
    await lab.admin.denyPrivileges(['VirtualMachine.State.CreateSnapshot', 'VirtualMachine.Interact.PowerOff']);
    expect(await vsphere.checkPrivileges()).toMatchObject([
      {
        code: 'P1',
        severity: 'error',
        object: 'VirtualMachine.State.CreateSnapshot',
        observed: 'The account may not take snapshots.',
      },
      { code: 'P1', severity: 'error', object: 'VirtualMachine.Interact.PowerOff' },
    ]);
    await lab.admin.denyPrivileges([]);
  });

  it('is refused where the licence of a lone ESXi host allows no changes', async () => {
    await lab.admin.setProperty('LicenseManager', 'licenses', [
      { licenseKey: '00000', editionKey: 'esxBasic', name: 'vSphere 7 Hypervisor', total: 1 },
    ]);
    // A vCenter may own such a key; its hosts do not use it.
    expect(await lab.connect().checkPrivileges()).toEqual([]);
    await lab.admin.setProperty('ServiceInstance', 'content.about.apiType', 'HostAgent');
    expect(await lab.connect().checkPrivileges()).toMatchObject([
      {
        code: 'P2',
        severity: 'error',
        observed: 'Its licence "vSphere 7 Hypervisor" allows no changes by API, so no snapshot either.',
      },
    ]);
  });
});
