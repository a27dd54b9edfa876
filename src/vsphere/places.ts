import { readAll, readObject } from './properties.js';
import type { MoRef } from './requests.js';
import type { Session } from './session.js';

/** Names and parents of folders and datacenters, to say where a VM is. */
export interface Places {
  /** Path from the root (its own name left out) to an object, such as `Site/DC0/vm/Prod`. */
  pathOf(id: string | undefined): string;
}

/** Reads all folders and datacenters at once, for listing many VMs. */
export async function readPlaces(session: Session): Promise<Places> {
  const paths = ['name', 'parent'];
  const known = new Map<string, { name: string; parent?: string }>();
  for (const { ref, properties } of await readAll(session, { Folder: paths, Datacenter: paths })) {
    const parent = (properties['parent'] as MoRef | undefined)?.value;
    known.set(ref.value, { name: String(properties['name']), ...(parent ? { parent } : {}) });
  }
  const pathOf = (id: string | undefined): string => {
    // The root folder is not inside itself, so it is not in the map and the climb ends there.
    const at = id === undefined ? undefined : known.get(id);
    return at ? [pathOf(at.parent), at.name].filter((part) => part !== '').join('/') : '';
  };
  return { pathOf };
}

/** Inventory path of the datacenter that holds a VM, climbing from the VM's parent to the root. */
export async function readDatacenterPath(session: Session, parent: MoRef | undefined): Promise<string> {
  const names: string[] = [];
  let datacenterDepth: number | undefined;
  for (let at = parent; at;) {
    const found = await readObject(session, at, ['name', 'parent']);
    const above = found['parent'] as MoRef | undefined;
    if (at.type === 'Datacenter') datacenterDepth = names.length;
    if (above) names.push(String(found['name']));
    at = above;
  }
  return datacenterDepth === undefined ? '' : names.slice(datacenterDepth).reverse().join('/');
}
