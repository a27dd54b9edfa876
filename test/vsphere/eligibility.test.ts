import { describe, expect, it } from 'vitest';
import { findSourceProblems, type SourceDisk, type SourceNic, type SourceVm } from '../../src/vsphere/index.js';

const datastore = { name: 'datastore1', type: 'VMFS', freeBytes: 2 ** 40, accessible: true };

const disk: SourceDisk = {
  deviceKey: 2000,
  label: 'Hard disk 1',
  capacityBytes: 2 ** 30,
  fileName: '[datastore1] web01/web01.vmdk',
  datastore,
  controllerType: 'lsisas',
  controllerBus: 0,
  unitNumber: 0,
  mode: 'persistent',
  kind: 'flat',
  backingType: 'VirtualDiskFlatVer2BackingInfo',
  sharing: 'none',
  encrypted: false,
};

const nic: SourceNic = {
  label: 'Network adapter 1',
  mac: '00:50:56:00:00:01',
  networkName: 'VM Network',
  type: 'e1000e',
};

const vm: SourceVm = {
  name: 'web01',
  instanceUuid: 'i',
  datacenterPath: 'DC0',
  powerState: 'poweredOn',
  connectionState: 'connected',
  isTemplate: false,
  guestFullName: 'Debian 12',
  isWindows: false,
  hardwareVersion: 19,
  cpuCount: 1,
  coresPerSocket: 1,
  memoryBytes: 2 ** 30,
  firmware: 'bios',
  secureBoot: false,
  hasVtpm: false,
  encrypted: false,
  cryptoLocked: false,
  changeTrackingEnabled: true,
  changeTrackingSupported: true,
  consolidationNeeded: false,
  faultTolerance: false,
  disabledMethods: [],
  passthroughDevices: [],
  host: { name: 'esx1', connected: true, inMaintenance: false, apiVersion: '8.0' },
  tools: { installed: true, running: true, versionStatus: 'guestToolsCurrent' },
  disks: [disk],
  nics: [nic],
  hasCdDrive: false,
  snapshots: [],
};

const idsOf = (changes: Partial<SourceVm>) =>
  findSourceProblems({ ...vm, ...changes }).map(({ code, severity }) => `${code} ${severity}`);
const idsOfDisk = (changes: Partial<SourceDisk>) => idsOf({ disks: [{ ...disk, ...changes }] });

describe('findSourceProblems', () => {
  it('finds nothing on an ordinary VM', () => {
    expect(findSourceProblems(vm)).toEqual([]);
  });

  it('[S67] [S69] refuses raw device mappings of both modes, naming disk and mode', () => {
    expect(idsOfDisk({ kind: 'rdmPhysical' })).toEqual(['D1 error']);
    expect(idsOfDisk({ kind: 'rdmVirtual' })).toEqual(['D2 error']);
    const [finding] = findSourceProblems({ ...vm, disks: [{ ...disk, kind: 'rdmPhysical' }] });
    expect(finding?.object).toContain('Hard disk 1');
    expect(finding?.observed).toContain('physical');
  });

  it('[S68] refuses independent disks, persistent or not', () => {
    expect(idsOfDisk({ mode: 'independent_persistent' })).toEqual(['D3 error']);
    expect(idsOfDisk({ mode: 'independent_nonpersistent' })).toEqual(['D3 error']);
    expect(idsOfDisk({ mode: 'nonpersistent' })).toEqual(['D4 error']);
  });

  it('[S70] refuses encrypted disks', () => {
    expect(idsOfDisk({ encrypted: true })).toEqual(['D7 error']);
  });

  it('[S66] only warns about vSAN', () => {
    const [finding] = findSourceProblems({ ...vm, disks: [{ ...disk, datastore: { ...datastore, type: 'vsan' } }] });
    expect(finding).toMatchObject({ code: 'D10', severity: 'warning' });
    expect(finding?.observed).toContain('unofficial');
  });

  it.each([
    ['a disk several VMs write to', { sharing: 'multiWriter' }, 'D5 error'],
    ['a disk on a shared bus', { sharing: 'sharedBus' }, 'D6 error'],
    ['vVols', { datastore: { ...datastore, type: 'VVOL' } }, 'D11 warning'],
    ['persistent memory', { kind: 'pmem' }, 'D12 error'],
    ['a linked clone', { linkedCloneOf: '[datastore1] gold/gold.vmdk' }, 'D13 warning'],
    ['an old format', { kind: 'sparse' }, 'D15 warning'],
    ['a backing nobody has heard of', { kind: 'unknown', backingType: 'VirtualQuantumBackingInfo' }, 'D16 error'],
    ['an inaccessible datastore', { datastore: { ...datastore, accessible: false } }, 'D18 error'],
    ['SE sparse', { kind: 'sesparse' }, 'D14 info'],
    ['NVMe', { controllerType: 'nvme' }, 'D17 info'],
    ['a small datastore', { datastore: { ...datastore, freeBytes: 2 ** 28 }, capacityBytes: 2 ** 32 }, 'V16 warning'],
    ['a full datastore', { datastore: { ...datastore, freeBytes: 2 ** 28 - 1 } }, 'V16 error'],
  ] as [string, Partial<SourceDisk>, string][])('of disks: %s', (_what, changes, expected) => {
    expect(idsOfDisk(changes)).toEqual([expected]);
  });

  it.each([
    ['snapshots', { snapshots: [{ moRef: 's', name: 'old', description: '', createTime: '' }] }, 'V1 warning'],
    ['left-over deltas', { consolidationNeeded: true }, 'V2 warning'],
    ['no change tracking', { changeTrackingSupported: false }, 'V4 warning'],
    ['hardware too old for it', { hardwareVersion: 4 }, 'V4 warning'],
    ['a template', { isTemplate: true }, 'V6 error'],
    ['a suspended VM', { powerState: 'suspended' }, 'V7 error'],
    ['a VM out of reach', { connectionState: 'inaccessible' }, 'V8 error'],
    ['an open question', { pendingQuestion: 'moved or copied?' }, 'V9 error'],
    ['Tools that do not run', { tools: { installed: true, running: false, versionStatus: 'x' } }, 'V10 warning'],
    ['fault tolerance', { faultTolerance: true }, 'V11 error'],
    ['a PCI device passed through', { passthroughDevices: ['VirtualPCIPassthrough'] }, 'V12 error'],
    [
      'the same on a VM that is off',
      { passthroughDevices: ['VirtualPCIPassthrough'], powerState: 'poweredOff' },
      'V12 warning',
    ],
    ['a serial port', { passthroughDevices: ['VirtualSerialPort'] }, 'V12 warning'],
    ['a host in maintenance', { host: { ...vm.host, inMaintenance: true } }, 'V13 error'],
    ['a host that vCenter has lost', { host: { ...vm.host, connected: false } }, 'V13 error'],
    ['a lock of another product', { disabledMethods: ['CreateSnapshot_Task'] }, 'V14 error'],
    ['a running VM that may not be stopped', { disabledMethods: ['PowerOffVM_Task'] }, 'V14 error'],
    ['an extension', { managedBy: 'com.example.vdi' }, 'V15 warning'],
    ['a datacenter named as a path', { datacenterPath: 'Berlin%2fEast' }, 'V17 warning'],
    ['tracking that is off', { changeTrackingEnabled: false }, 'V3 info'],
    ['the mark of a finished migration', { mark: 'done' }, 'V18 error'],
    ['a virtual TPM', { hasVtpm: true }, 'V19 error'],
    ['an encrypted home', { encrypted: true }, 'V19 error'],
    ['UEFI', { firmware: 'uefi' }, 'V20 info'],
    ['secure boot', { firmware: 'uefi', secureBoot: true }, 'V20 warning'],
    ['no disk', { disks: [] }, 'V21 error'],
  ] as [string, Partial<SourceVm>, string][])('of VMs: %s', (_what, changes, expected) => {
    expect(idsOf(changes)).toEqual([expected]);
  });

  it('takes what the power state rules out for no sign of another product', () => {
    expect(idsOf({ disabledMethods: ['PowerOnVM_Task', 'Destroy_Task'] })).toEqual([]);
    expect(idsOf({ disabledMethods: ['PowerOffVM_Task'], powerState: 'poweredOff' })).toEqual([]);
    expect(idsOf({ disabledMethods: ['PowerOnVM_Task'], powerState: 'poweredOff' })).toEqual(['V14 error']);
  });

  it('refuses two disks on one file, naming both', () => {
    const twin = { ...disk, deviceKey: 2001, label: 'Hard disk 2' };
    const found = findSourceProblems({ ...vm, disks: [disk, twin] });
    expect(found.map(({ code, observed }) => `${code} ${observed}`)).toEqual([
      'D20 It shares its file with Hard disk 2.',
      'D20 It shares its file with Hard disk 1.',
    ]);
  });

  it('[S83] warns when removing Tools takes the boot or network driver of Windows', () => {
    const risky = { disks: [{ ...disk, controllerType: 'pvscsi' as const }], nics: [{ ...nic, type: 'vmxnet3' }] };
    expect(idsOf({ ...risky, isWindows: true })).toEqual(['V22 warning', 'V23 warning']);
    // Linux brings both drivers itself, and where no Tools are there is nothing to take away.
    expect(idsOf(risky)).toEqual([]);
    const tools = { installed: false, running: false, versionStatus: 'guestToolsNotInstalled' };
    expect(idsOf({ ...risky, isWindows: true, tools, powerState: 'poweredOff' })).toEqual([]);
  });

  it('[S123] each refused disk points to the other ways of migrating', () => {
    const refused = [{ kind: 'rdmVirtual' }, { mode: 'independent_persistent' }, { encrypted: true }] as const;
    for (const changes of refused) {
      const findings = findSourceProblems({ ...vm, disks: [{ ...disk, ...changes }] });
      expect(findings.map(({ remedy }) => remedy).join()).toContain('https://docs.xcp-ng.org/');
    }
  });

  it('reports everything, not only the first finding', () => {
    expect(
      idsOf({
        isTemplate: true,
        consolidationNeeded: true,
        disks: [disk, { ...disk, deviceKey: 2001, fileName: '[datastore1] web01/b.vmdk', encrypted: true }],
      }),
    ).toEqual(['V2 warning', 'V6 error', 'D7 error']);
  });
});
