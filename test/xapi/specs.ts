import type { TargetDiskSpec, TargetVmSpec, Xapi } from '../../src/xapi/index.js';
import { EXTERNAL, MIB, uuidOfNetwork, uuidOfSr, type TestPool } from './lab.js';

export const MACS = ['00:50:56:aa:00:01', '00:50:56:aa:00:02'];

/** A BIOS VM with two cards and a CD drive. */
export async function vmSpec(pool: TestPool, changes: Partial<TargetVmSpec> = {}): Promise<TargetVmSpec> {
  const networkUuid = await uuidOfNetwork(pool, EXTERNAL);
  return {
    migrationId: 'm-1',
    name: 'web01',
    description: 'from a test',
    cpuCount: 4,
    coresPerSocket: 2,
    memoryBytes: 512 * MIB,
    firmware: 'bios',
    isWindows: false,
    nics: MACS.map((mac) => ({ mac, networkUuid })),
    hasCdDrive: true,
    ...changes,
  };
}

export async function diskSpec(
  pool: TestPool,
  vmUuid: string,
  changes: Partial<TargetDiskSpec> = {},
): Promise<TargetDiskSpec> {
  return {
    migrationId: 'm-1',
    vmUuid,
    deviceKey: 2000,
    label: 'web01 Hard disk 1',
    virtualSizeBytes: 3 * MIB,
    srUuid: await uuidOfSr(pool, 'Local thin'),
    index: 0,
    ...changes,
  };
}

/** A VM of its own migration with disks at the given indices. */
export async function makeTarget(pool: TestPool, xapi: Xapi, migrationId: string, diskCount = 1) {
  const { vmUuid } = await xapi.createTargetVm(await vmSpec(pool, { migrationId, name: migrationId }));
  const disks = [];
  for (let index = 0; index < diskCount; index++) {
    const spec = await diskSpec(pool, vmUuid, { migrationId, deviceKey: 2000 + index, index });
    disks.push(await xapi.createTargetDisk(spec));
  }
  return { vmUuid, disks };
}
