import { parseDatastorePath, type Device } from './backings.js';
import { markIn } from './configuration.js';
import { readDisks, readNics, readPassthrough, type DatastoreLookup } from './devices.js';
import { toolsState } from './inventory.js';
import { explained, vmRef, type Context } from './operations.js';
import { readDatacenterPath } from './places.js';
import { readObject, readObjects } from './properties.js';
import type { MoRef } from './requests.js';
import type { Session } from './session.js';
import { readSnapshots } from './snapshot-tree.js';
import type { PowerState, SourceVm } from './types.js';

const PATHS = [
  ...['name', 'parent', 'network', 'datastore', 'disabledMethod'],
  ...['config.instanceUuid', 'config.version', 'config.template'],
  ...['config.guestId', 'config.guestFullName', 'config.firmware', 'config.bootOptions', 'config.keyId'],
  ...['config.hardware.numCPU', 'config.hardware.numCoresPerSocket', 'config.hardware.memoryMB'],
  ...['config.hardware.device', 'config.changeTrackingEnabled', 'config.extraConfig', 'config.files.vmPathName'],
  ...['config.ftInfo', 'config.managedBy', 'capability.changeTrackingSupported', 'summary.config.tpmPresent'],
  ...['runtime.powerState', 'runtime.connectionState', 'runtime.host', 'runtime.bootTime', 'runtime.question'],
  ...['runtime.consolidationNeeded', 'runtime.faultToleranceState', 'runtime.cryptoState'],
  ...['guest.toolsRunningStatus', 'guest.toolsVersionStatus2', 'guest.guestFamily'],
];

/** Everything a migration needs to know of a VM. Bytes, ISO times and our own names; nothing of vSphere's vocabulary passes this point. */
export async function inspectVm({ session }: Context, { vmMoRef }: { vmMoRef: string }): Promise<SourceVm> {
  return explained(`Inspecting ${vmMoRef} failed.`, async () => {
    const vm = vmRef(vmMoRef);
    const p = await readObject(session, vm, PATHS);
    const [snapshots, datacenterPath, host, datastores, networks] = await Promise.all([
      readSnapshots(session, vm),
      readDatacenterPath(session, p['parent'] as MoRef | undefined),
      readHost(session, p['runtime.host'] as MoRef | undefined),
      readDatastores(session, (p['datastore'] ?? []) as MoRef[]),
      readNetworks(session, (p['network'] ?? []) as MoRef[]),
    ]);
    const devices = (p['config.hardware.device'] ?? []) as Device[];
    const home = parseDatastorePath(text(p['config.files.vmPathName']))?.directory ?? '';
    const question = p['runtime.question'] as { text: string } | undefined;
    const cpuCount = Number(p['config.hardware.numCPU']);
    return {
      name: text(p['name']),
      instanceUuid: text(p['config.instanceUuid']),
      datacenterPath,
      powerState: p['runtime.powerState'] as PowerState,
      connectionState: text(p['runtime.connectionState']),
      isTemplate: p['config.template'] === true,
      bootTime: p['runtime.bootTime'] as string | undefined,
      guestFullName: text(p['config.guestFullName']),
      // By what the VM is configured as, or by what the guest itself says.
      isWindows: /^win/i.test(text(p['config.guestId'])) || p['guest.guestFamily'] === 'windowsGuest',
      hardwareVersion: Number(/\d+$/.exec(text(p['config.version']))?.[0] ?? 0),
      cpuCount,
      coresPerSocket: Number(p['config.hardware.numCoresPerSocket'] ?? 0) || cpuCount,
      memoryBytes: Number(p['config.hardware.memoryMB']) * 1024 * 1024,
      firmware: p['config.firmware'] === 'efi' ? 'uefi' : 'bios',
      secureBoot: isTrue((p['config.bootOptions'] as Record<string, unknown> | undefined)?.['efiSecureBootEnabled']),
      hasVtpm: p['summary.config.tpmPresent'] === true || devices.some(({ $type }) => $type === 'VirtualTPM'),
      encrypted: p['config.keyId'] !== undefined,
      cryptoLocked: p['runtime.cryptoState'] === 'locked',
      changeTrackingEnabled: p['config.changeTrackingEnabled'] === true,
      changeTrackingSupported: p['capability.changeTrackingSupported'] === true,
      consolidationNeeded: p['runtime.consolidationNeeded'] === true,
      faultTolerance:
        p['config.ftInfo'] !== undefined || !['', 'notConfigured'].includes(text(p['runtime.faultToleranceState'])),
      pendingQuestion: question?.text,
      disabledMethods: (p['disabledMethod'] ?? []) as string[],
      passthroughDevices: readPassthrough(devices),
      managedBy: (p['config.managedBy'] as { extensionKey: string } | undefined)?.extensionKey,
      host,
      tools: toolsState(p),
      disks: readDisks(devices, home, snapshots.length > 0, datastores),
      nics: readNics(devices, networks),
      hasCdDrive: devices.some(({ $type }) => $type === 'VirtualCdrom'),
      snapshots,
      mark: markIn(p['config.extraConfig']),
    };
  });
}

async function readHost(session: Session, host: MoRef | undefined): Promise<SourceVm['host']> {
  if (!host) return { name: '', connected: false, inMaintenance: false, apiVersion: '' };
  const product = 'summary.config.product';
  const paths = ['name', 'runtime.inMaintenanceMode', 'runtime.connectionState', product];
  const found = await readObject(session, host, paths);
  return {
    name: text(found['name']),
    connected: found['runtime.connectionState'] === 'connected',
    inMaintenance: found['runtime.inMaintenanceMode'] === true,
    apiVersion: text((found[product] as { apiVersion?: string } | undefined)?.apiVersion),
  };
}

async function readDatastores(session: Session, refs: MoRef[]): Promise<DatastoreLookup> {
  const found = await readObjects(session, refs, { Datastore: ['summary'] });
  const byId = new Map(found.map(({ ref, properties }) => [ref.value, properties['summary'] as DatastoreSummary]));
  return (moRef) => {
    const summary = byId.get(moRef);
    if (!summary) return undefined;
    const { name, type, freeSpace: freeBytes, accessible } = summary;
    return { name, type, freeBytes, accessible };
  };
}

interface DatastoreSummary {
  name: string;
  type: string;
  freeSpace: number;
  accessible: boolean;
}

/** Names by MoRef, and of distributed port groups by their key as well: their cards know only that. */
async function readNetworks(session: Session, refs: MoRef[]): Promise<Map<string, string>> {
  const paths = { Network: ['name'], OpaqueNetwork: ['name'], DistributedVirtualPortgroup: ['name', 'key'] };
  const asked = Object.fromEntries(Object.entries(paths).filter(([type]) => refs.some((ref) => ref.type === type)));
  const found = await readObjects(session, refs, asked);
  return new Map(
    found.flatMap(({ ref, properties }) => {
      const keys = [ref.value, ...(properties['key'] === undefined ? [] : [text(properties['key'])])];
      return keys.map((key): [string, string] => [key, text(properties['name'])]);
    }),
  );
}

function text(value: unknown): string {
  return value === undefined ? '' : String(value);
}

function isTrue(value: unknown): boolean {
  return value === true || value === 'true';
}
