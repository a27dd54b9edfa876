import { backingChain, fileNameOf, type Backing, type Device } from './backings.js';
import { readObject, readObjects } from './properties.js';
import type { MoRef } from './requests.js';
import type { Session } from './session.js';
import type { SnapshotInfo } from './types.js';

interface SnapshotTree {
  snapshot: MoRef;
  name: string;
  description: string;
  createTime: string;
  childSnapshotList: SnapshotTree[];
}

const DEVICES = 'config.hardware.device';

/** The snapshots of a VM, parents before children, each with the size of what its removal has to merge. */
export async function readSnapshots(session: Session, vm: MoRef): Promise<SnapshotInfo[]> {
  const properties = await readObject(session, vm, ['snapshot.rootSnapshotList', 'layoutEx.file', DEVICES]);
  const snapshots = flatten((properties['snapshot.rootSnapshotList'] ?? []) as SnapshotTree[]);
  const frozen = await readObjects(
    session,
    snapshots.map(({ moRef }) => ({ type: 'VirtualMachineSnapshot', value: moRef })),
    { VirtualMachineSnapshot: [DEVICES] },
  );
  const files = (properties['layoutEx.file'] ?? []) as { name: string; size: number }[];
  const backings = [properties, ...frozen.map((object) => object.properties)].flatMap((at) => diskBackings(at));
  return snapshots.map((snapshot) => {
    const own = frozen.find(({ ref }) => ref.value === snapshot.moRef);
    return { ...snapshot, sizeBytes: own && deltaSize(diskBackings(own.properties), backings, files) };
  });
}

function flatten(trees: SnapshotTree[], parentMoRef?: string): SnapshotInfo[] {
  return trees.flatMap(({ snapshot, name, description, createTime, childSnapshotList }) => [
    { moRef: snapshot.value, name, description, createTime, parentMoRef },
    ...flatten(childSnapshotList, snapshot.value),
  ]);
}

function diskBackings(properties: Record<string, unknown>): Backing[] {
  const devices = (properties[DEVICES] ?? []) as Device[];
  return devices.flatMap(({ $type, backing }) => ($type === 'VirtualDisk' && backing ? [backing] : []));
}

/** Bytes of the deltas that sit directly on this snapshot's files. Undefined when the server lists no such file. */
function deltaSize(frozen: Backing[], all: Backing[], files: { name: string; size: number }[]): number | undefined {
  const bottoms = new Set(frozen.map(fileNameOf));
  const deltas = new Set(
    all.flatMap(backingChain).flatMap((link) => {
      return link.parent && bottoms.has(fileNameOf(link.parent)) ? [fileNameOf(link).replace(/\.vmdk$/, '')] : [];
    }),
  );
  // A delta is a descriptor and an extent whose name has a suffix that depends on its format.
  const sizes = files.flatMap(({ name, size }) => {
    const stem = name.replace(/(-flat|-delta|-sesparse|-ctk)?\.vmdk$/, '');
    return name.endsWith('.vmdk') && deltas.has(stem) ? [size] : [];
  });
  return sizes.length === 0 ? undefined : sizes.reduce((sum, size) => sum + size, 0);
}
