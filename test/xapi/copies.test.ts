import { copyFile, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeBootDisk } from '../../lab/disks/disks.js';
import type { Xapi } from '../../src/xapi/index.js';
import { waitFor } from '../lab/wait-for.js';
import { errorOf, EXTERNAL, MIB, startTestPool, uuidOfNetwork, uuidOfSr, type TestPool } from './lab.js';
import { diskSpec, MACS, makeTarget, vmSpec } from './specs.js';

let pool: TestPool;
let xapi: Xapi;
beforeAll(async () => {
  pool = await startTestPool();
  xapi = pool.connect();
});
afterAll(() => pool.end());

const nics = MACS.map((mac) => ({ mac }));
const uuidsOf = async (type: string) => (await pool.records(type)).map(([, record]) => record.uuid).sort();
const managedVdis = async () =>
  (await pool.records('VDI')).filter(([, vdi]) => vdi['managed'] === true).map(([, vdi]) => vdi.uuid);
const refOf = (type: string, uuid: string) => pool.raw.call<string>(`${type}.get_by_uuid`, uuid);
const snap = (vmUuid: string, migrationId: string, pass = 'base') =>
  xapi.snapshotTarget({ vmUuid, name: 'after partial import from V2V', migrationId, pass });
const copyOf = (snapshotUuid: string, migrationId: string) =>
  xapi.createTestCopy({ migrationId, snapshotUuid, name: migrationId, networkName: 'surefire test', nics });

describe('snapshotTarget', () => {
  it('[S13] [S96] takes one snapshot per pass, and finds it again when the answer was lost', async () => {
    const { vmUuid, disks } = await makeTarget(pool, xapi, 'm-snap', 2);
    const base = await snap(vmUuid, 'm-snap');
    expect(await snap(vmUuid, 'm-snap')).toEqual(base);
    const delta = await snap(vmUuid, 'm-snap', 'delta-1');
    expect(delta.uuid).not.toBe(base.uuid);
    expect(await snap(vmUuid, 'm-snap', 'delta-1')).toEqual(delta);
    expect(base.disks.map(({ deviceKey }) => deviceKey)).toEqual([2000, 2001]);
    const frozen = await pool.record('VDI', base.disks[1]!.vdiUuid);
    expect(frozen).toMatchObject({ is_a_snapshot: true, snapshot_of: await refOf('VDI', disks[1]!.vdiUuid) });
    expect((await pool.record('VM', base.uuid))['name_label']).toBe('after partial import from V2V');
    expect((await pool.record('VM', vmUuid))['snapshots']).toHaveLength(2);
  });

  it('destroys one snapshot with its disks and leaves the others', async () => {
    const { vmUuid } = await makeTarget(pool, xapi, 'm-drop', 2);
    const base = await snap(vmUuid, 'm-drop');
    const before = await managedVdis();
    const delta = await snap(vmUuid, 'm-drop', 'delta-1');
    await xapi.destroyVm(delta.uuid, 'm-drop');
    await xapi.destroyVm(delta.uuid, 'm-drop');
    expect((await managedVdis()).sort()).toEqual(before.sort());
    expect(await uuidsOf('VM')).toContain(base.uuid);
  });
});

describe('test copy', () => {
  it('[S101] [S102] [S103] can be started where the base cannot, with the source’s MACs on a network without PIF', async () => {
    const { vmUuid } = await makeTarget(pool, xapi, 'm-copy');
    const { uuid } = await snap(vmUuid, 'm-copy');
    const copy = await copyOf(uuid, 'm-copy');
    expect(await copyOf(uuid, 'm-copy')).toEqual(copy);
    expect(copy.vmUuid).not.toBe(vmUuid);
    expect(await pool.record('VM', copy.vmUuid)).toMatchObject({
      name_label: '[Test] m-copy',
      is_a_template: false,
      is_a_snapshot: false,
      blocked_operations: {},
    });
    const seen = await xapi.observeVm(copy.vmUuid);
    expect(seen.vifs).toEqual(MACS.map((mac) => ({ mac, networkUuid: copy.networkUuid, hasPif: false })));
    await xapi.requireIsolated(copy.vmUuid, 'm-copy');
    expect(await xapi.isBlocked(vmUuid)).toBe(true);
    expect((await xapi.createTargetVm(await vmSpec(pool, { migrationId: 'm-copy' }))).vmUuid).toBe(vmUuid);
  });

  it('[S103] is refused a start while one card is on a network with an interface, or on somebody else’s', async () => {
    const { vmUuid } = await makeTarget(pool, xapi, 'm-leak');
    const copy = await copyOf((await snap(vmUuid, 'm-leak')).uuid, 'm-leak');
    const [vif] = (await pool.record('VM', copy.vmUuid))['VIFs'] as string[];
    await pool.raw.call('VIF.move', vif, await refOf('network', await uuidOfNetwork(pool, EXTERNAL)));
    const error = await errorOf(xapi.requireIsolated(copy.vmUuid, 'm-leak'));
    expect(error).toMatchObject({ type: 'TargetRefused', nonRetryable: true });
    expect(error.message).toContain(EXTERNAL);
    const other = await uuidOfNetwork(pool, 'Host internal management network');
    await pool.raw.call('VIF.move', vif, await refOf('network', other));
    expect(await errorOf(xapi.requireIsolated(copy.vmUuid, 'm-leak'))).toMatchObject({ type: 'TargetRefused' });
  });

  it('[S110] goes with its disks, cards and network, and leaves base and snapshot', async () => {
    const { vmUuid } = await makeTarget(pool, xapi, 'm-gone', 2);
    const { uuid } = await snap(vmUuid, 'm-gone');
    const [vms, vdis, networks] = [await uuidsOf('VM'), await managedVdis(), await uuidsOf('network')];
    await copyOf(uuid, 'm-gone');
    expect(await managedVdis()).toHaveLength(vdis.length + 2);
    await xapi.destroyTestCopy('m-gone');
    await xapi.destroyTestCopy('m-gone');
    expect(await uuidsOf('VM')).toEqual(vms);
    expect((await managedVdis()).sort()).toEqual(vdis.sort());
    expect(await uuidsOf('network')).toEqual(networks);
  });

  it('goes completely also when the first removal broke off between its disks', async () => {
    const { vmUuid } = await makeTarget(pool, xapi, 'm-torn', 2);
    const { uuid } = await snap(vmUuid, 'm-torn');
    const vdis = await managedVdis();
    await copyOf(uuid, 'm-torn');
    await pool.admin.fault({ kind: 'call', method: 'VM.destroy', code: 'INTERNAL_ERROR' });
    expect(await errorOf(xapi.destroyTestCopy('m-torn'))).toMatchObject({ nonRetryable: false });
    await xapi.destroyTestCopy('m-torn');
    expect((await managedVdis()).sort()).toEqual(vdis.sort());
  });

  it('never takes a clone that somebody else made for ours, though it inherits every mark', async () => {
    const { vmUuid } = await makeTarget(pool, xapi, 'm-theirs');
    const { uuid } = await snap(vmUuid, 'm-theirs');
    const copy = await copyOf(uuid, 'm-theirs');
    const clones = [];
    for (const [from, name] of [
      [vmUuid, 'backup of it'],
      [copy.vmUuid, '[Test] m-theirs_clone'],
    ] as const) {
      const ref = await pool.raw.call<string>('VM.clone', await refOf('VM', from), name);
      clones.push(await pool.raw.call<string>('VM.get_uuid', ref));
      expect((await pool.record('VM', clones.at(-1)!)).other_config['surefire:migration']).toBe('m-theirs');
    }
    const theirDisks = (await Promise.all(clones.map((clone) => xapi.diskUuidsOf(clone)))).flat();
    expect(theirDisks).toHaveLength(2);
    await xapi.destroyTestCopy('m-theirs');
    await xapi.destroyOwned('m-theirs');
    const left = (await xapi.listOwned('m-theirs')).filter(({ kind }) => kind === 'VM' || kind === 'VDI');
    expect(left.map((object) => object.uuid).sort()).toEqual([...clones, ...theirDisks].sort());
  });
});

describe('removal', () => {
  it('refuses a VM that is not of this migration', async () => {
    const { vmUuid } = await makeTarget(pool, xapi, 'm-mine');
    const error = await errorOf(xapi.destroyVm(vmUuid, 'm-other'));
    expect(error).toMatchObject({ type: 'TargetRefused', nonRetryable: true });
    expect(await uuidsOf('VM')).toContain(vmUuid);
  });

  it('lists and destroys everything: VM, snapshots, copy, disks without a VM, network', async () => {
    const [vms, vdis, networks] = [await uuidsOf('VM'), await managedVdis(), await uuidsOf('network')];
    const { vmUuid, disks } = await makeTarget(pool, xapi, 'm-all', 2);
    const { uuid } = await snap(vmUuid, 'm-all');
    await copyOf(uuid, 'm-all');
    // As after a crash between the disk and its place in the VM.
    const orphaned = (await pool.record('VDI', disks[1]!.vdiUuid))['VBDs'] as string[];
    await pool.raw.call('VBD.destroy', orphaned[0]);
    const taskRef = await xapi.createTask('import', 'm-all');
    const kinds = (await xapi.listOwned('m-all')).map(({ kind }) => kind);
    expect(kinds.slice(0, 3)).toEqual(['snapshot', 'VM', 'VM']);
    expect([...kinds].sort()).toEqual(
      ['snapshot', 'VM', 'VM', 'VDI', 'VDI', 'VDI', 'VDI', 'VDI', 'VDI', 'network', 'task'].sort(),
    );
    await xapi.destroyTask(taskRef);
    await xapi.destroyTask(taskRef);
    expect((await xapi.listOwned('m-all')).map(({ kind }) => kind)).not.toContain('task');
    await xapi.destroyOwned('m-all');
    expect(await xapi.listOwned('m-all')).toEqual([]);
    expect(await uuidsOf('VM')).toEqual(vms);
    expect((await managedVdis()).sort()).toEqual(vdis.sort());
    expect(await uuidsOf('network')).toEqual(networks);
    await xapi.destroyOwned('m-all');
  });

  it('waits while the disk is in use', async () => {
    const { vmUuid, disks } = await makeTarget(pool, xapi, 'm-busy');
    await pool.admin.fault({ kind: 'call', method: 'VDI.destroy', code: 'VDI_IN_USE', params: ['x', 'destroy'] });
    await xapi.destroyVm(vmUuid, 'm-busy');
    expect(await managedVdis()).not.toContain(disks[0]!.vdiUuid);
  });
});

describe('a copy that runs', () => {
  it('[S105] [S106] is seen running: power, start time, agent, addresses, picture; then it is stopped and removed', async () => {
    const migrationId = 'm-boot';
    const { vmUuid } = await xapi.createTargetVm(await vmSpec(pool, { migrationId, name: migrationId }));
    const spec = await diskSpec(pool, vmUuid, { migrationId, virtualSizeBytes: 48 * MIB });
    const disk = await xapi.createTargetDisk(spec);
    const made = await makeBootDisk({ firmware: 'bios', path: join(pool.stateDir, 'boot.raw'), nonce: 'copy-1' });
    const { path } = (await pool.admin.vdis())[disk.vdiUuid]!;
    await copyFile(made.path, path);
    await truncate(path, disk.virtualSizeBytes);

    const copy = await copyOf((await snap(vmUuid, migrationId)).uuid, migrationId);
    expect(await xapi.observeVm(copy.vmUuid)).not.toHaveProperty('guest');
    expect(await xapi.consolePicture(copy.vmUuid)).toBeUndefined();
    await xapi.startVm(copy.vmUuid);
    await xapi.startVm(copy.vmUuid);
    await waitFor(
      async () => (await xapi.observeVm(copy.vmUuid)).guest !== undefined,
      'the guest agent to report',
      90_000,
    );
    const seen = await xapi.observeVm(copy.vmUuid);
    expect(seen).toMatchObject({ powerState: 'Running', guest: { osVersion: { name: 'Surefire test guest' } } });
    expect(seen.startTime).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    expect(Math.abs(Date.now() - Date.parse(seen.startTime))).toBeLessThan(120_000);
    const picture = await xapi.consolePicture(copy.vmUuid);
    expect(picture).toMatchObject({ contentType: 'image/png' });
    expect(picture!.bytes.length).toBeGreaterThan(500);
    expect((await xapi.observeVm(vmUuid)).powerState, 'the base was never started').toBe('Halted');

    expect(await errorOf(pool.raw.call('VM.destroy', await refOf('VM', copy.vmUuid)))).toMatchObject({
      nonRetryable: false,
    });
    await xapi.destroyTestCopy(migrationId);
    expect(await uuidsOf('VM')).not.toContain(copy.vmUuid);
    await xapi.stopVm(vmUuid);
    expect(await xapi.srFacts(await uuidOfSr(pool, 'Local thin'))).toMatchObject({ thick: false });
  });
});
