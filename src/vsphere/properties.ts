import { VimFault, faultFromLocalized } from './faults.js';
import type { MoRef } from './requests.js';
import type { Session } from './session.js';

/** A page of what a property collector read. */
export interface RetrieveResult {
  token?: string;
  objects: { obj: MoRef; propSet: { name: string; val: unknown }[]; missingSet: { fault: unknown }[] }[];
}

/** One object with the properties that are set; unset ones are absent. */
export interface ReadObject {
  ref: MoRef;
  properties: Record<string, unknown>;
}

/** Property paths to read, by managed object type. */
export type Paths = Record<string, readonly string[]>;

// 100 VMs with their devices are 0.7 MB of XML, and parsing blocks this process for a tenth of a second.
const PAGE_SIZE = 100;

/**
 * Reads properties of the objects given.
 * @throws VimFault ManagedObjectNotFound when one of them is gone, NoPermission when the account may not read one of
 * the properties: taking that for "unset" would hide disks or snapshots.
 */
export async function readObjects(session: Session, refs: MoRef[], paths: Paths): Promise<ReadObject[]> {
  if (refs.length === 0) return [];
  const objectSet = refs.map((obj) => ({ obj, skip: false }));
  return retrieve(session, paths, objectSet, true);
}

/** Reads properties of one object. */
export async function readObject(
  session: Session,
  ref: MoRef,
  paths: readonly string[],
): Promise<Record<string, unknown>> {
  const [object] = await readObjects(session, [ref], { [ref.type]: paths });
  if (!object) throw new VimFault('ManagedObjectNotFound', `no answer about ${ref.value}`);
  return object.properties;
}

/**
 * Reads properties of every object of the types named, wherever it is in the inventory.
 *
 * What vanishes in the meantime or may not be read is left out, so that one VM does not hide all others.
 */
export async function readAll(session: Session, paths: Paths): Promise<ReadObject[]> {
  const { viewManager, rootFolder } = await session.content();
  const view = await session.call<MoRef>('CreateContainerView', viewManager, {
    container: rootFolder,
    type: Object.keys(paths),
    recursive: true,
  });
  try {
    const traversal = { $type: 'TraversalSpec', name: 'view', type: 'ContainerView', path: 'view', skip: false };
    return await retrieve(session, paths, [{ obj: view, skip: true, selectSet: [traversal] }], false);
  } finally {
    // The view dies with the session anyway.
    await session.call('DestroyView', view).catch(() => undefined);
  }
}

async function retrieve(session: Session, paths: Paths, objectSet: object[], mustRead: boolean): Promise<ReadObject[]> {
  const collector = (await session.content()).propertyCollector;
  const propSet = Object.entries(paths).map(([type, pathSet]) => ({ type, all: false, pathSet: [...pathSet] }));
  const read: ReadObject[] = [];
  // No answer at all means that nothing matched.
  let page = await session.call<RetrieveResult | undefined>('RetrievePropertiesEx', collector, {
    specSet: [{ propSet, objectSet }],
    options: { maxObjects: PAGE_SIZE },
  });
  for (;;) {
    for (const { obj, propSet: values, missingSet } of page?.objects ?? []) {
      const fault = missingSet[0] && faultFromLocalized(missingSet[0].fault);
      if (fault && mustRead) throw fault;
      read.push({ ref: obj, properties: Object.fromEntries(values.map(({ name, val }) => [name, val])) });
    }
    if (page?.token === undefined) return read;
    page = await session.call<RetrieveResult>('ContinueRetrievePropertiesEx', collector, { token: page.token });
  }
}
