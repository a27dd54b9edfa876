import { explained, type Context } from './operations.js';
import { readPlaces } from './places.js';
import { readAll } from './properties.js';
import { moRef, type MoRef } from './requests.js';
import { toolsState } from './guest.js';
import type { About, PowerState, VmSummary } from './types.js';
import type { Device } from './wire.js';

export async function about({ session }: Context): Promise<About> {
  const { about: found } = await session.content();
  return {
    instanceUuid: found.instanceUuid ?? '',
    apiVersion: found.apiVersion,
    productName: found.fullName,
    isVcenter: found.apiType === 'VirtualCenter',
  };
}

const PATHS = [
  'name',
  'parent',
  'runtime.powerState',
  'config.instanceUuid',
  'config.guestFullName',
  'config.hardware.device',
  'guest.toolsRunningStatus',
  'guest.toolsVersionStatus2',
];

/** All VMs the account may see, by path and name. Those without a configuration (inaccessible ones) are left out. */
export async function listVms({ session }: Context): Promise<VmSummary[]> {
  return explained('Listing the VMs failed.', async () => {
    const places = await readPlaces(session);
    const found = await readAll(session, { VirtualMachine: PATHS });
    return found
      .filter(({ properties }) => properties['config.instanceUuid'] !== undefined)
      .map(({ ref, properties }): VmSummary => {
        const devices = (properties['config.hardware.device'] ?? []) as Device[];
        const disks = devices.filter(({ $type }) => $type === 'VirtualDisk');
        const tools = toolsState(properties);
        return {
          moRef: ref.value,
          name: String(properties['name']),
          powerState: properties['runtime.powerState'] as PowerState,
          instanceUuid: String(properties['config.instanceUuid']),
          folderPath: places.pathOf((properties['parent'] as MoRef | undefined)?.value),
          guestFullName: String(properties['config.guestFullName'] ?? ''),
          diskTotalBytes: disks.reduce((sum, disk) => sum + capacityOf(disk), 0),
          diskCount: disks.length,
          toolsStatus: !tools.installed ? 'notInstalled' : tools.running ? 'running' : 'notRunning',
        };
      })
      .sort((a, b) => compare(`${a.folderPath}/${a.name}`, `${b.folderPath}/${b.name}`));
  });
}

export async function findVm({ session }: Context, instanceUuid: string): Promise<{ vmMoRef: string } | null> {
  return explained(`Looking for the VM ${instanceUuid} failed.`, async () => {
    const { searchIndex } = await session.content();
    const found = await session.call<MoRef | undefined>(
      'FindByUuid',
      searchIndex ?? moRef('SearchIndex', 'SearchIndex'),
      { uuid: instanceUuid, vmSearch: true, instanceUuid: true },
    );
    return found ? { vmMoRef: found.value } : null;
  });
}

export function capacityOf(disk: Device): number {
  return disk.capacityInBytes ?? (disk.capacityInKB ?? 0) * 1024;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
