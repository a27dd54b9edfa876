import type { NbdClient } from '../nbd/index.js';
import { failureTypeOf } from '../shared/index.js';
import type { DeltaMethod } from '../shared/index.js';
import { planFromAreas, planFromMap, planWholeDisk } from '../transfer/index.js';
import type { Plan } from '../transfer/index.js';
import type { Vsphere } from '../vsphere/index.js';
import type { CopyDiskInput } from './types.js';

/**
 * Finds out what a pass has to read. The same snapshot always gives the same plan; its digest in the checkpoint proves it.
 *
 * A delta is what changed since the changeId, as vSphere tells; a fault of that query is `ChangeTrackingReset`, never
 * silence (R8). A base pass takes the library's own map over VDDK, and over https what CBT calls allocated (R35); without
 * either, everything is read and zeroes are not sent.
 */
export async function planPass(
  input: CopyDiskInput,
  client: Vsphere,
  connect: () => Promise<NbdClient>,
): Promise<{ plan: Plan; deltaMethod: DeltaMethod }> {
  const { kind, snapshotMoRef, sinceChangeId } = input;
  const { deviceKey, capacityBytes } = input.disk;
  const areasSince = (changeId: string) =>
    client.queryChangedAreas({ vmMoRef: input.source.vmMoRef, snapshotMoRef, deviceKey, changeId, capacityBytes });

  if (kind === 'delta') {
    if (sinceChangeId === undefined) throw new Error('a delta needs a changeId');
    return { plan: await planFromAreas(kind, capacityBytes, await areasSince(sinceChangeId)), deltaMethod: 'cbt' };
  }
  if (input.transport === 'vddk') {
    const nbd = await connect();
    try {
      return { plan: await planFromMap(kind, capacityBytes, nbd.mapExtents()), deltaMethod: 'map' };
    } finally {
      await nbd.close();
    }
  }
  try {
    return { plan: await planFromAreas(kind, capacityBytes, await areasSince('*')), deltaMethod: 'cbt' };
  } catch (error) {
    // Away from VMFS the query for everything allocated may be refused; then there is no map, and all is read (R35).
    if (failureTypeOf(error) !== 'ChangeTrackingReset') throw error;
    return { plan: await planWholeDisk(kind, capacityBytes), deltaMethod: 'all' };
  }
}
