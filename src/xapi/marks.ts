import { xapiCode } from './failures.js';
import type { Connection } from './connection.js';
import type { XapiRecord } from './types.js';

/**
 * Our keys in `other_config`. Snapshots and clones inherit all of them; `self` holds the object's own uuid, so where it
 * differs the object is a copy and what else it says is not about it (R16).
 */
export const KEYS = {
  migration: 'surefire:migration',
  self: 'surefire:self',
  disk: 'surefire:disk',
  pass: 'surefire:pass',
  writer: 'surefire:writer',
  test: 'surefire:test',
  checkpoint: ['surefire:checkpoint-a', 'surefire:checkpoint-b'],
  checked: 'surefire:read-back',
  finished: 'surefire:migrated-from',
} as const;

/** True for what was made by us and is not a copy of it. */
export function isOriginal(record: XapiRecord): boolean {
  const self = record.other_config[KEYS.self];
  return self === undefined || self === record.uuid;
}

/** Name of a test copy, so that nobody takes it for the VM. */
export const testName = (name: string): string => `[Test] ${name}`;

/**
 * True for the clone that we made to be tested. Clones that others made (a backup's, say) inherit our marks as well: they
 * are not ours to destroy. A clone has its name from the start, its own mark a moment later.
 */
export function isTestCopy(vm: XapiRecord): boolean {
  const mark = vm.other_config[KEYS.test];
  if (vm['is_a_snapshot'] === true || isOriginal(vm)) return false;
  return mark === undefined ? String(vm['name_label']).startsWith(testName('')) : mark === vm.uuid;
}

export const belongsTo = (record: XapiRecord, migrationId: string): boolean =>
  record.other_config[KEYS.migration] === migrationId;

/** Writes the object's own uuid on it, once (R16). */
export async function markSelf(xapi: Connection, type: 'VM' | 'VDI', ref: string, record: XapiRecord): Promise<void> {
  if (record.other_config[KEYS.self] !== record.uuid) await setKey(xapi, type, ref, KEYS.self, record.uuid);
}

/** Sets one key of a map, whatever it held. Two calls: XAPI has no replace, and removing a missing key is no error. */
export async function setKey(xapi: Connection, type: 'VM' | 'VDI', ref: string, key: string, value: string) {
  await xapi.call(`${type}.remove_from_other_config`, ref, key);
  await addKey(xapi, type, ref, key, value);
}

/** Adds a key. @returns False when it is there already: the one test-and-set that XAPI offers (R17). */
export async function addKey(
  xapi: Connection,
  type: 'VM' | 'VDI',
  ref: string,
  key: string,
  value: string,
): Promise<boolean> {
  try {
    await xapi.call(`${type}.add_to_other_config`, ref, key, value);
    return true;
  } catch (error) {
    if (xapiCode(error) === 'MAP_DUPLICATE_KEY') return false;
    throw error;
  }
}

/** All records of a class, by reference. */
export async function allRecords(xapi: Connection, type: string): Promise<[ref: string, record: XapiRecord][]> {
  return Object.entries(await xapi.call<Record<string, XapiRecord>>(`${type}.get_all_records`));
}

export const refOf = (xapi: Connection, type: string, uuid: string): Promise<string> =>
  xapi.call<string>(`${type}.get_by_uuid`, uuid);

export async function recordOf(xapi: Connection, type: string, uuid: string): Promise<[ref: string, XapiRecord]> {
  const ref = await refOf(xapi, type, uuid);
  return [ref, await xapi.call<XapiRecord>(`${type}.get_record`, ref)];
}

export const NULL_REF = 'OpaqueRef:NULL';

/** True when the error says that the object is gone: what was to be removed is removed. */
export const isGone = (error: unknown): boolean => ['HANDLE_INVALID', 'UUID_INVALID'].includes(xapiCode(error) ?? '');

/** Runs an action on an object that may be gone, now or before it is through; then the answer is `otherwise`. */
export async function unlessGone<T>(action: () => Promise<T>, otherwise: T): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (isGone(error)) return otherwise;
    throw error;
  }
}
