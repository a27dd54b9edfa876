import { capacityOf, type Device } from './backings.js';
import { explained, type Context } from './operations.js';
import { readPlaces } from './places.js';
import { readAll } from './properties.js';
import type { MoRef } from './requests.js';
import type { About, PowerState, ToolsState, VmSummary } from './types.js';

export async function about({ session }: Context): Promise<About> {
  const { about: found } = await session.content();
  return { apiVersion: found.apiVersion, productName: found.fullName, isEsxi: found.apiType === 'HostAgent' };
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

/** What a VM says about its Tools. Old servers leave the version out; then running Tools are installed ones. */
export function toolsState(properties: Record<string, unknown>): ToolsState {
  const versionStatus = String(properties['guest.toolsVersionStatus2'] ?? '');
  const runningStatus = properties['guest.toolsRunningStatus'];
  const running = runningStatus === 'guestToolsRunning' || runningStatus === 'guestToolsExecutingScripts';
  return {
    installed: running || (versionStatus !== '' && versionStatus !== 'guestToolsNotInstalled'),
    running,
    versionStatus,
  };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
