import { failure } from '../shared/errors.js';
import { backingChain, baseFileOf, fileNameOf } from './backings.js';
import { explained, isFault, runTask, settleVm, snapshotRef, vmRef, type Context } from './operations.js';
import { readObject } from './properties.js';
import type { MoRef } from './requests.js';
import { readSnapshots } from './snapshot-tree.js';
import type { EnsuredSnapshot, EnsureSnapshotInput, SnapshotDisk, SnapshotInfo, TaskWait } from './types.js';
import type { Device } from './wire.js';

export async function ensureSnapshot(context: Context, input: EnsureSnapshotInput): Promise<EnsuredSnapshot> {
  const { vmMoRef, name, ownerId } = input;
  return explained(`Taking snapshot "${name}" of ${vmMoRef} failed.`, async () => {
    await settleVm(context, vmMoRef, input);
    const found = await findOwn(context, vmMoRef, name, ownerId);
    if (found) return { snapshotMoRef: found.moRef, createTime: found.createTime, adopted: true };
    const result = await runTask(
      context,
      'CreateSnapshot_Task',
      vmRef(vmMoRef),
      // Without a memory image: a revert leaves the VM off, and nothing of the guest's memory is written (R7).
      { name, description: describe(input), memory: false, quiesce: input.quiesce ?? false },
      input,
    );
    const created = (await listSnapshots(context, vmMoRef)).find(({ moRef }) => moRef === (result as MoRef).value);
    if (!created) throw gone(name, vmMoRef);
    return { snapshotMoRef: created.moRef, createTime: created.createTime, adopted: false };
  });
}

export async function listSnapshots({ session }: Context, vmMoRef: string): Promise<SnapshotInfo[]> {
  return explained(`Listing the snapshots of ${vmMoRef} failed.`, () => readSnapshots(session, vmRef(vmMoRef)));
}

export async function snapshotDisks({ session }: Context, snapshotMoRef: string): Promise<SnapshotDisk[]> {
  return explained(`Reading snapshot ${snapshotMoRef} failed.`, async () => {
    const path = 'config.hardware.device';
    const { [path]: devices } = await readObject(session, snapshotRef(snapshotMoRef), [path]);
    return ((devices ?? []) as Device[]).flatMap((device): SnapshotDisk[] => {
      const { backing } = device;
      if (device.$type !== 'VirtualDisk' || !backing || backing.diskMode?.startsWith('independent')) return [];
      const parent = backingChain(backing)[1];
      return [
        {
          deviceKey: device.key,
          fileName: fileNameOf(backing),
          ...(parent ? { parentFileName: fileNameOf(parent) } : {}),
          baseFileName: baseFileOf(backing),
          ...(backing.changeId ? { changeId: backing.changeId } : {}),
          capacityBytes: device.capacityInBytes ?? (device.capacityInKB ?? 0) * 1024,
        },
      ];
    });
  });
}

export async function removeSnapshot(context: Context, snapshotMoRef: string, wait: TaskWait): Promise<void> {
  await explained(`Removing snapshot ${snapshotMoRef} failed.`, async () => {
    try {
      const vm = await vmOf(context, snapshotMoRef);
      await settleVm(context, vm.value, wait);
      const args = { removeChildren: false, consolidate: true };
      await runTask(context, 'RemoveSnapshot_Task', snapshotRef(snapshotMoRef), args, wait);
    } catch (error) {
      // The task may be what the server has forgotten, so look at the snapshot itself.
      if (!isFault(error, 'ManagedObjectNotFound') || (await exists(context, snapshotMoRef))) throw error;
    }
  });
}

export async function removeSnapshots(
  context: Context,
  input: { vmMoRef: string; snapshotMoRefs: string[] } & TaskWait,
): Promise<void> {
  const { taskMoRef: _earlier, ...wait } = input;
  await explained(`Waiting for ${input.vmMoRef} failed.`, () => settleVm(context, input.vmMoRef, input));
  // Children first: each removal then merges one delta into the one below, never a branch.
  const order = (await listSnapshots(context, input.vmMoRef)).map(({ moRef }) => moRef).reverse();
  for (const moRef of order) {
    if (input.snapshotMoRefs.includes(moRef)) await removeSnapshot(context, moRef, wait);
  }
}

export async function revertToSnapshot(context: Context, snapshotMoRef: string, wait: TaskWait): Promise<void> {
  await explained(`Reverting to snapshot ${snapshotMoRef} failed.`, async () => {
    const vm = await vmOf(context, snapshotMoRef);
    await settleVm(context, vm.value, wait);
    await runTask(context, 'RevertToSnapshot_Task', snapshotRef(snapshotMoRef), { suppressPowerOn: true }, wait);
  });
}

/** Our snapshot of that name; names alone may be anybody's (R6). */
async function findOwn(
  context: Context,
  vmMoRef: string,
  name: string,
  ownerId: string,
): Promise<SnapshotInfo | undefined> {
  const snapshots = await listSnapshots(context, vmMoRef);
  return snapshots.find((snapshot) => snapshot.name === name && isOwnedBy(snapshot, ownerId));
}

/** True when the description carries this id in brackets, as a whole: `m/vm-4` does not own what `m/vm-42` made. */
export function isOwnedBy(snapshot: Pick<SnapshotInfo, 'description'>, ownerId: string): boolean {
  return snapshot.description.includes(`[${ownerId}]`);
}

function describe({ description, ownerId }: EnsureSnapshotInput): string {
  return [description ?? 'Made by surefire; please leave it alone while the migration runs.', `[${ownerId}]`].join(' ');
}

async function vmOf({ session }: Context, snapshotMoRef: string): Promise<MoRef> {
  return (await readObject(session, snapshotRef(snapshotMoRef), ['vm']))['vm'] as MoRef;
}

async function exists(context: Context, snapshotMoRef: string): Promise<boolean> {
  try {
    await vmOf(context, snapshotMoRef);
    return true;
  } catch (error) {
    if (isFault(error, 'ManagedObjectNotFound')) return false;
    throw error;
  }
}

function gone(name: string, vmMoRef: string): Error {
  return failure('SourceNotFound', {
    what: `Snapshot "${name}" of ${vmMoRef} is not there although its creation succeeded.`,
    why: 'Somebody removed it at once, or the server lists it late.',
    next: 'look at the snapshots of the VM in the vSphere client, then try again.',
  });
}
