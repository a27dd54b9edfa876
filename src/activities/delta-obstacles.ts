import { isOlder } from '../nbd/index.js';
import type { TransportProbe } from '../nbd/index.js';
import type { Finding, Transport } from '../shared/index.js';
import type { SourceDisk, SourceVm } from '../vsphere/index.js';
import type { SourceDiskFacts } from './types.js';

/** Before it, hosts keep the deltas of snapshots in a format (COWD) whose extents nobody reports (R35). */
const FIRST_WITH_EXTENTS = '6.5';
/** The first library with VixDiskLib_QueryAllocatedBlocks. */
const FIRST_LIBRARY_WITH_MAP = '6.7';

/** Why changes of this VM cannot be tracked; a sentence's end. */
export function trackingObstacle({ changeTrackingSupported, hardwareVersion }: SourceVm): string | undefined {
  return changeTrackingSupported && hardwareVersion >= 7
    ? undefined
    : `change tracking is not supported (virtual hardware ${hardwareVersion})`;
}

/**
 * Why a snapshot's own extents cannot tell what changed on a disk without change tracking (R4). What nobody could be
 * asked is no obstacle: the map itself is looked at once more when it is there.
 *
 * @param apiVersion Of the vCenter; the host may be older, and counts then.
 */
export function singleLinkObstacle(
  disk: SourceDisk,
  { host }: SourceVm,
  { transport, apiVersion, probe }: { transport: Transport; apiVersion: string; probe?: TransportProbe },
): string | undefined {
  if (transport !== 'vddk') return 'https serves the base file only';
  const older = host.apiVersion !== '' && isOlder(host.apiVersion, apiVersion) ? host.apiVersion : apiVersion;
  if (isOlder(older, FIRST_WITH_EXTENTS)) return `vSphere ${older} does not report the extents of a snapshot`;
  const library = probe?.vddk.version;
  if (library !== undefined && isOlder(library, FIRST_LIBRARY_WITH_MAP)) return `VDDK ${library} gives no map`;
  if (disk.kind !== 'flat') return `its format is ${disk.kind}`;
  if (disk.linkedCloneOf !== undefined) return 'it is a linked clone';
  return undefined;
}

/** What V4 costs: the way that each disk's deltas are found instead. */
export function withMethods(finding: Finding, disks: SourceDiskFacts[]): Finding {
  const ways = disks.map(({ label, singleLinkObstacle: obstacle }) =>
    obstacle === undefined
      ? `${label} by the extents of its last snapshot (single-link), which stays until the next is copied`
      : `${label} by comparison with the target (${obstacle}), which reads the whole disk in the outage`,
  );
  return {
    ...finding,
    remedy: `upgrade the virtual hardware while the VM is off, or accept that deltas are found otherwise: ${ways.join('; ')}.`,
  };
}
