import { failure } from '../shared/errors.js';
import { backingChain, baseFileOf, capacityOf, fileNameOf, type Device } from './backings.js';
import { explained, isFault, runTask, settleVm, snapshotRef, vmRef, type Context } from './operations.js';
import { readObject } from './properties.js';
import type { MoRef } from './requests.js';
import { readSnapshots } from './snapshot-tree.js';
import type { OnVm, SnapshotDisk, SnapshotInfo, TaskWait } from './types.js';

export interface EnsureSnapshotInput extends OnVm {
  /** Shown in the vSphere client, such as `vm starting point`. */
  name: string;
  /** Our id, kept in the description; a snapshot of the same name without it is foreign. */
  ownerId: string;
  /** Sentence for people, put in front of the id. */
  description?: string;
}

type OnSnapshot = { snapshotMoRef: string } & TaskWait;

/**
 * May run twice: adopts a snapshot of that name whose description carries `ownerId`, or a task still creating it.
 *
 * @returns `adopted` is true when it existed already.
 */
export async function ensureSnapshot(
  context: Context,
  input: EnsureSnapshotInput,
): Promise<{ snapshotMoRef: string; createTime: string; parentMoRef?: string; adopted: boolean }> {
  const { vmMoRef, name, ownerId } = input;
  return explained(`Taking snapshot "${name}" of ${vmMoRef} failed.`, async () => {
    await settleVm(context, vmMoRef, input);
    // Names alone may be anybody's (R6).
    const found = (await listSnapshots(context, input)).find((at) => at.name === name && isOwnedBy(at, ownerId));
    if (found) return { ...nameOf(found), adopted: true };
    const result = await runTask(
      context,
      'CreateSnapshot_Task',
      vmRef(vmMoRef),
      // Without a memory image: a revert leaves the VM off, and nothing of the guest's memory is written (R7).
      { name, description: describe(input), memory: false, quiesce: false },
      input,
    );
    const created = (await listSnapshots(context, input)).find(({ moRef }) => moRef === (result as MoRef).value);
    if (!created) throw gone(name, vmMoRef);
    return { ...nameOf(created), adopted: false };
  });
}

const nameOf = ({ moRef, createTime, parentMoRef }: SnapshotInfo) => ({
  snapshotMoRef: moRef,
  createTime,
  ...(parentMoRef !== undefined && { parentMoRef }),
});

/** The snapshot tree, flattened, parents before children. */
export async function listSnapshots({ session }: Context, { vmMoRef }: { vmMoRef: string }): Promise<SnapshotInfo[]> {
  return explained(`Listing the snapshots of ${vmMoRef} failed.`, () => readSnapshots(session, vmRef(vmMoRef)));
}

/** Disks as the snapshot froze them, with the changeIds that count (R1, R2). Independent disks are not among them. */
export async function snapshotDisks(
  { session }: Context,
  { snapshotMoRef }: { snapshotMoRef: string },
): Promise<SnapshotDisk[]> {
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
          parentFileName: parent && fileNameOf(parent),
          baseFileName: baseFileOf(backing),
          // An empty one would be none.
          changeId: backing.changeId || undefined,
          capacityBytes: capacityOf(device),
        },
      ];
    });
  });
}

/** May run twice: a snapshot that is gone is removed. Its children stay. */
export async function removeSnapshot(context: Context, input: OnSnapshot): Promise<void> {
  const { snapshotMoRef } = input;
  await explained(`Removing snapshot ${snapshotMoRef} failed.`, async () => {
    try {
      const vm = await vmOf(context, snapshotMoRef);
      await settleVm(context, vm.value, input);
      const args = { removeChildren: false, consolidate: true };
      await runTask(context, 'RemoveSnapshot_Task', snapshotRef(snapshotMoRef), args, input);
    } catch (error) {
      // The task may be what the server has forgotten, so look at the snapshot itself.
      if (!isFault(error, 'ManagedObjectNotFound') || (await exists(context, snapshotMoRef))) throw error;
    }
  });
}

/** Removes exactly these, children before parents. Used for an approved list. */
export async function removeSnapshots(context: Context, input: OnVm & { snapshotMoRefs: string[] }): Promise<void> {
  const { taskMoRef: _earlier, ...wait } = input;
  await explained(`Waiting for ${input.vmMoRef} failed.`, () => settleVm(context, input.vmMoRef, input));
  // Children first: each removal then merges one delta into the one below, never a branch.
  const order = (await listSnapshots(context, input)).map(({ moRef }) => moRef).reverse();
  for (const moRef of order) {
    if (input.snapshotMoRefs.includes(moRef)) await removeSnapshot(context, { ...wait, snapshotMoRef: moRef });
  }
}

/** Everything written since is lost, and the tracking epoch ends (R7). The VM is left off. */
export async function revertToSnapshot(context: Context, input: OnSnapshot): Promise<void> {
  const { snapshotMoRef } = input;
  await explained(`Reverting to snapshot ${snapshotMoRef} failed.`, async () => {
    const vm = await vmOf(context, snapshotMoRef);
    await settleVm(context, vm.value, input);
    await runTask(context, 'RevertToSnapshot_Task', snapshotRef(snapshotMoRef), { suppressPowerOn: true }, input);
  });
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
