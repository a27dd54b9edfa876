import { VimFault, faultFromLocalized } from './faults.js';
import { moRef, type MoRef } from './requests.js';
import type { Session } from './session.js';
import type { RetrieveResult } from './wire.js';

/** One object with the properties that are set. Unset ones are absent, and so are those the account may not read. */
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
 * @throws VimFault ManagedObjectNotFound when one of them is gone.
 */
export async function readObjects(session: Session, refs: MoRef[], paths: Paths): Promise<ReadObject[]> {
  if (refs.length === 0) return [];
  return retrieve(
    session,
    paths,
    refs.map((obj) => ({ obj, skip: false })),
  );
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

/** Reads properties of every object of the types named, wherever it is in the inventory. */
export async function readAll(session: Session, paths: Paths): Promise<ReadObject[]> {
  const { viewManager, rootFolder } = await session.content();
  const view = await session.call<MoRef>('CreateContainerView', viewManager ?? moRef('ViewManager', 'ViewManager'), {
    container: rootFolder,
    type: Object.keys(paths),
    recursive: true,
  });
  try {
    const traversal = { $type: 'TraversalSpec', name: 'view', type: 'ContainerView', path: 'view', skip: false };
    return await retrieve(session, paths, [{ obj: view, skip: true, selectSet: [traversal] }]);
  } finally {
    // The view dies with the session anyway.
    await session.call('DestroyView', view).catch(() => undefined);
  }
}

async function retrieve(session: Session, paths: Paths, objectSet: object[]): Promise<ReadObject[]> {
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
      // A property we may not read is left out like an unset one; an object that vanished is not.
      const gone = missingSet.map((entry) => faultFromLocalized(entry.fault)).find(isGone);
      if (gone) throw gone;
      read.push({ ref: obj, properties: Object.fromEntries(values.map(({ name, val }) => [name, val])) });
    }
    if (page?.token === undefined) return read;
    page = await session.call<RetrieveResult>('ContinueRetrievePropertiesEx', collector, { token: page.token });
  }
}

function isGone(fault: VimFault): boolean {
  return fault.type === 'ManagedObjectNotFound';
}
