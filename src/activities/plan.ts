import type { NbdClient } from '../nbd/index.js';
import { failure, failureTypeOf } from '../shared/index.js';
import type { DeltaMethod } from '../shared/index.js';
import { planFromAreas, planFromMap, planWholeDisk } from '../transfer/index.js';
import type { Plan, Range } from '../transfer/index.js';
import type { Vsphere } from '../vsphere/index.js';
import type { CopyDiskInput } from './types.js';

/** What can be asked for a plan. */
export interface PlanSources {
  client: Vsphere;
  /** The disk as the snapshot shows it, through its whole chain. */
  connect: () => Promise<NbdClient>;
  /** The snapshot's own link of the chain alone: good for its map, never for bytes. */
  connectLink: () => Promise<NbdClient>;
  /** Where the disk differs from this VDI. */
  compare: (vdiUuid: string) => Promise<Range[]>;
}

/**
 * Finds out what a pass has to read. The same snapshot always gives the same plan; its digest in the checkpoint proves it.
 *
 * A delta is what changed since a changeId, as vSphere tells; or what the snapshot's own link holds; or what differs from
 * the target (R4). A fault of the first two is `ChangeTrackingReset`, never silence (R8). A base pass takes what CBT calls
 * allocated, on every transport, so that another one can go on with it (D12). Where that query is refused (no tracking, or
 * away from VMFS), it takes the library's own map over VDDK, and over https everything is read and zeroes are not sent (R35).
 */
export async function planPass(
  input: CopyDiskInput,
  { client, connect, connectLink, compare }: PlanSources,
): Promise<{ plan: Plan; deltaMethod: DeltaMethod; bytesCompared?: number }> {
  const { kind, snapshotMoRef, since } = input;
  const { deviceKey, capacityBytes } = input.disk;
  const areasSince = (changeId: string) =>
    client.queryChangedAreas({ vmMoRef: input.source.vmMoRef, snapshotMoRef, deviceKey, changeId, capacityBytes });

  switch (since?.by) {
    case 'cbt':
      return { plan: await planFromAreas(kind, capacityBytes, await areasSince(since.changeId)), deltaMethod: 'cbt' };
    case 'single-link': {
      const plan = await mapped(connectLink, (nbd) => {
        if (nbd.hasMap) return planFromMap(kind, capacityBytes, nbd.mapExtents());
        throw failure('ChangeTrackingReset', {
          what: `${input.disk.label}: the extents of the snapshot alone are not reported.`,
          next: 'the disk is copied in full.',
        });
      });
      return { plan, deltaMethod: 'single-link' };
    }
    case 'compare':
      return {
        plan: await planFromAreas(kind, capacityBytes, await compare(since.vdiUuid)),
        deltaMethod: 'compare',
        bytesCompared: capacityBytes,
      };
  }
  try {
    return { plan: await planFromAreas(kind, capacityBytes, await areasSince('*')), deltaMethod: 'cbt' };
  } catch (error) {
    if (!['ChangeTrackingReset', 'ChangedAreasInvalid'].includes(failureTypeOf(error) ?? '')) throw error;
  }
  if (input.transport === 'https') return { plan: await planWholeDisk(kind, capacityBytes), deltaMethod: 'all' };
  return mapped(connect, async (nbd) => ({
    plan: await planFromMap(kind, capacityBytes, nbd.mapExtents()),
    deltaMethod: nbd.hasMap ? 'map' : 'all',
  }));
}

async function mapped<T>(connect: () => Promise<NbdClient>, use: (nbd: NbdClient) => Promise<T>): Promise<T> {
  const nbd = await connect();
  try {
    return await use(nbd);
  } finally {
    await nbd.close();
  }
}
