import { setTimeout as delay } from 'node:timers/promises';
import { failure } from '../shared/errors.js';
import type { Connection } from './connection.js';
import { xapiCode } from './failures.js';
import { allRecords, belongsTo, isOriginal, isTestCopy, KEYS, recordOf, refOf, unlessGone } from './marks.js';
import type { OwnedObject, XapiRecord } from './types.js';
import { destroyTask } from './transfers.js';
import { awaitNoAttachment, controlDomainVbds } from './writers.js';

/** The control domain's attachment can outlive its task for a while (xapi import, [U] xen-api 4339). */
const IN_USE_TRIES = 20;
const IN_USE_DELAY_MS = 1_500;

/** Destroys a disk; gone already is success. What an import left attached is waited for, then detached. */
export async function destroyVdi(xapi: Connection, vdiUuid: string): Promise<void> {
  await unlessGone(async () => {
    await awaitNoAttachment(xapi, vdiUuid);
    const [ref] = await recordOf(xapi, 'VDI', vdiUuid);
    for (let left = IN_USE_TRIES; ; left--) {
      try {
        return void (await xapi.call('VDI.destroy', ref));
      } catch (error) {
        if (xapiCode(error) !== 'VDI_IN_USE' || left === 0) throw error;
        await delay(IN_USE_DELAY_MS);
      }
    }
  }, undefined);
}

/**
 * Destroys a VM or a VM snapshot with its disks, but only one that carries the migration's mark. Gone already is success.
 * The disks go first: XAPI's `VM.destroy` leaves them behind, and after a crash in between nobody would know them.
 *
 * @throws TargetRefused when the object is not this migration's.
 */
export async function destroyVm(xapi: Connection, vmUuid: string, migrationId: string): Promise<void> {
  const found = await unlessGone(() => recordOf(xapi, 'VM', vmUuid), undefined);
  if (!found) return;
  const [ref, vm] = found;
  if (!belongsTo(vm, migrationId)) {
    throw failure('TargetRefused', {
      what: `VM "${String(vm['name_label'])}" (${vmUuid}) is not destroyed: it is not of ${migrationId}.`,
      next: 'look at it in Xen Orchestra; somebody removed our mark or took its uuid.',
    });
  }
  if (vm['power_state'] !== 'Halted') await hardShutdown(xapi, ref);
  for (const { vdiUuid, marks } of await disksOf(xapi, vm)) {
    if (marks[KEYS.migration] === migrationId) await destroyVdi(xapi, vdiUuid);
  }
  await unlessGone(() => xapi.call('VM.destroy', ref), undefined);
}

/** The disks behind a VM's or snapshot's VBDs, without CD drives. */
export async function disksOf(
  xapi: Connection,
  vm: XapiRecord,
): Promise<{ vdiUuid: string; deviceKey: number; marks: Record<string, string> }[]> {
  const disks = [];
  for (const vbdRef of vm['VBDs'] as string[]) {
    const vbd = await xapi.call<XapiRecord>('VBD.get_record', vbdRef);
    if (vbd['type'] !== 'Disk' || vbd['empty'] === true) continue;
    const vdi = await xapi.call<XapiRecord>('VDI.get_record', vbd['VDI']);
    disks.push({ vdiUuid: vdi.uuid, deviceKey: Number(vdi.other_config[KEYS.disk]), marks: vdi.other_config });
  }
  return disks;
}

/** Uuids of the disks of a VM or snapshot; none when it is gone. */
export async function diskUuidsOf(xapi: Connection, vmUuid: string): Promise<string[]> {
  return unlessGone(async () => {
    const [, vm] = await recordOf(xapi, 'VM', vmUuid);
    return (await disksOf(xapi, vm)).map(({ vdiUuid }) => vdiUuid);
  }, []);
}

/** Stops a VM at once; one that has just stopped by itself is fine. */
export async function hardShutdown(xapi: Connection, vmRef: string): Promise<void> {
  await xapi.call('VM.hard_shutdown', vmRef).catch((error: unknown) => {
    if (xapiCode(error) !== 'VM_BAD_POWER_STATE') throw error;
  });
}

/** Everything that carries the migration's mark, clones and snapshots before what they were made of. */
export async function listOwned(xapi: Connection, migrationId: string): Promise<OwnedObject[]> {
  const owned: OwnedObject[] = [];
  for (const [, vm] of await allRecords(xapi, 'VM')) {
    if (!belongsTo(vm, migrationId)) continue;
    owned.push({
      kind: vm['is_a_snapshot'] === true ? 'snapshot' : 'VM',
      uuid: vm.uuid,
      name: String(vm['name_label']),
    });
  }
  owned.sort((a, b) => Number(a.kind === 'VM') - Number(b.kind === 'VM'));
  for (const kind of ['VDI', 'network', 'task'] as const) {
    for (const [, record] of await allRecords(xapi, kind)) {
      // Base copies below a chain are the storage driver's own; it coalesces them.
      // A task says whose it is before it is marked: the answer of its making may have been lost.
      const isOurs = belongsTo(record, migrationId) || (kind === 'task' && record['name_description'] === migrationId);
      if (record['managed'] === false || !isOurs) continue;
      if (kind === 'task' && record['status'] !== 'pending') continue;
      owned.push({ kind, uuid: record.uuid, name: String(record['name_label']) });
    }
  }
  return owned;
}

/**
 * Destroys everything the migration made on the pool: its VM with all snapshots, the test copy, disks, network, tasks. A
 * clone that somebody else made of them carries the same marks and stays, with its disks; `listOwned` still names it.
 */
export async function destroyOwned(xapi: Connection, migrationId: string): Promise<void> {
  const all = await allRecords(xapi, 'VM');
  const vms = all.filter(([, vm]) => belongsTo(vm, migrationId));
  const ours = vms.filter(([, vm]) => vm['is_a_snapshot'] === false && (isOriginal(vm) || isTestCopy(vm)));
  const refs = new Set(ours.map(([ref]) => ref));
  // A snapshot whose VM is gone was ours: only a deletion of ours that was cut short leaves one.
  const isOurs = (of: unknown) => refs.has(String(of)) || !all.some(([ref]) => ref === of);
  const snapshots = vms.filter(([, vm]) => vm['is_a_snapshot'] === true && isOurs(vm['snapshot_of']));
  for (const [, vm] of [...snapshots, ...ours]) await destroyVm(xapi, vm.uuid, migrationId);
  for (const { kind, uuid } of await listOwned(xapi, migrationId)) {
    if (kind === 'VDI' && !(await hasVm(xapi, uuid))) await destroyVdi(xapi, uuid);
    else if (kind === 'network') await destroyNetwork(xapi, uuid);
  }
  await destroyTasks(xapi, migrationId);
}

/** Ends the tasks of the migration that still wait, for instance for the PUT of a worker that died. */
export async function destroyTasks(xapi: Connection, migrationId: string): Promise<void> {
  for (const { kind, uuid } of await listOwned(xapi, migrationId)) {
    if (kind === 'task') await unlessGone(async () => destroyTask(xapi, await refOf(xapi, 'task', uuid)), undefined);
  }
}

/** True when a VM other than a control domain has the disk. */
async function hasVm(xapi: Connection, vdiUuid: string): Promise<boolean> {
  return unlessGone(async () => {
    const [, vdi] = await recordOf(xapi, 'VDI', vdiUuid);
    return (vdi['VBDs'] as string[]).length > (await controlDomainVbds(xapi, vdiUuid)).length;
  }, false);
}

export async function destroyNetwork(xapi: Connection, uuid: string): Promise<void> {
  await unlessGone(async () => xapi.call('network.destroy', await refOf(xapi, 'network', uuid)), undefined);
}
