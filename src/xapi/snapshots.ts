import type { TargetSnapshot } from '../shared/index.js';
import type { Connection } from './connection.js';
import { allRecords, belongsTo, KEYS, recordOf, setKey } from './marks.js';
import { disksOf } from './removal.js';
import type { XapiRecord } from './types.js';

/**
 * Takes a snapshot of the target after a pass. May run twice: the pass is written on the VM first, the snapshot inherits
 * it in the same instant, and so a lost answer is found again although several snapshots share the guide's name.
 */
export async function snapshotTarget(
  xapi: Connection,
  input: { vmUuid: string; name: string; migrationId: string; pass: string },
): Promise<TargetSnapshot> {
  const [vmRef] = await recordOf(xapi, 'VM', input.vmUuid);
  await setKey(xapi, 'VM', vmRef, KEYS.pass, input.pass);
  const found = (await allRecords(xapi, 'VM')).find(
    ([, vm]) =>
      vm['is_a_snapshot'] === true &&
      vm['snapshot_of'] === vmRef &&
      belongsTo(vm, input.migrationId) &&
      vm.other_config[KEYS.pass] === input.pass &&
      vm['name_label'] === input.name,
  );
  const ref = found?.[0] ?? (await xapi.call<string>('VM.snapshot', vmRef, input.name));
  const snapshot = await xapi.call<XapiRecord>('VM.get_record', ref);
  const disks = (await disksOf(xapi, snapshot)).map(({ deviceKey, vdiUuid }) => ({ deviceKey, vdiUuid }));
  return { uuid: snapshot.uuid, disks };
}
