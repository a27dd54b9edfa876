import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { isOwnedBy, type TaskProgress, type Vsphere } from '../../src/vsphere/index.js';
import { errorOf, moRefOf, plainVm, startTestLab, type TestLab } from './lab.js';

describe('snapshots', () => {
  let lab: TestLab;
  let vsphere: Vsphere;
  let vmMoRef: string;
  beforeAll(async () => {
    lab = await startTestLab({
      vms: [plainVm('web01', { disks: [{ capacityBytes: 8 << 20 }, { capacityBytes: 3 << 20 }] })],
    });
    vsphere = lab.connect();
    vmMoRef = await moRefOf(vsphere, 'web01');
  });
  afterAll(() => lab?.end());
  beforeEach(async () => {
    await lab.admin.clearRules();
    const snapshotMoRefs = (await vsphere.listSnapshots({ vmMoRef })).map(({ moRef }) => moRef);
    await vsphere.removeSnapshots({ vmMoRef, snapshotMoRefs });
    await lab.admin.clearCalls();
  });

  const calls = async (name: string) => (await lab.admin.calls()).filter(({ method }) => method === name).length;
  const start = { name: 'vm starting point', ownerId: 'migration/lab/vm-1' };

  it('[S79] takes a snapshot of exactly that name, without memory, and says its MoRef', async () => {
    const progress: TaskProgress[] = [];
    const made = await vsphere.ensureSnapshot({ vmMoRef, ...start, onProgress: (p) => progress.push(p) });
    expect(made).toMatchObject({ adopted: false, snapshotMoRef: expect.stringMatching(/^snapshot-/) as string });
    expect(progress.at(-1)).toMatchObject({ state: 'success' });
    const [snapshot] = await vsphere.listSnapshots({ vmMoRef });
    expect(snapshot).toMatchObject({
      moRef: made.snapshotMoRef,
      name: 'vm starting point',
      createTime: made.createTime,
    });
    expect(snapshot?.description).toContain('migration/lab/vm-1');
    expect((await lab.admin.vm('web01')).powerState).toBe('poweredOn');
  });

  it('adopts its own snapshot and leaves a foreign one of the same name alone', async () => {
    const foreign = await vsphere.ensureSnapshot({ vmMoRef, ...start, ownerId: 'migration/lab/vm-12' });
    const own = await vsphere.ensureSnapshot({ vmMoRef, ...start });
    expect(own).toMatchObject({ adopted: false });
    expect(await vsphere.ensureSnapshot({ vmMoRef, ...start })).toEqual({ ...own, adopted: true });
    expect(own.snapshotMoRef).not.toBe(foreign.snapshotMoRef);
    expect(await calls('CreateSnapshot_Task')).toBe(2);
    const owners = (await vsphere.listSnapshots({ vmMoRef })).map((snapshot) => isOwnedBy(snapshot, start.ownerId));
    expect(owners).toEqual([false, true]);
  });

  it("[S85] the second snapshot's parent is the first one", async () => {
    const first = await vsphere.ensureSnapshot({ vmMoRef, ...start });
    const second = await vsphere.ensureSnapshot({ vmMoRef, ...start, name: 'vm without tools' });
    expect(await vsphere.listSnapshots({ vmMoRef })).toMatchObject([
      { moRef: first.snapshotMoRef },
      { moRef: second.snapshotMoRef, name: 'vm without tools', parentMoRef: first.snapshotMoRef },
    ]);
    const [disk] = await vsphere.snapshotDisks({ snapshotMoRef: second.snapshotMoRef });
    expect(disk).toMatchObject({ baseFileName: '[datastore1] web01/web01.vmdk', capacityBytes: 8 << 20 });
    expect(disk?.parentFileName).toBe(disk?.baseFileName);
    const [base] = await vsphere.snapshotDisks({ snapshotMoRef: first.snapshotMoRef });
    expect(base?.parentFileName).toBeUndefined();
  });

  it('waits for the task of an attempt that died, instead of taking a second snapshot', async () => {
    await lab.admin.addRule({ method: 'CreateSnapshot_Task', seconds: 1 });
    const died = new AbortController();
    let taskMoRef: string | undefined;
    const first = await errorOf(
      vsphere.ensureSnapshot({
        vmMoRef,
        ...start,
        signal: died.signal,
        onProgress: (progress) => {
          taskMoRef = progress.taskMoRef;
          died.abort();
        },
      }),
    );
    expect(first.name).toBe('AbortError');
    // Another process, with what the heartbeat kept; and one that lost even that.
    const withHeartbeat = lab.connect().ensureSnapshot({ vmMoRef, ...start, ...(taskMoRef ? { taskMoRef } : {}) });
    const without = lab.connect().ensureSnapshot({ vmMoRef, ...start });
    const [one, two] = await Promise.all([withHeartbeat, without]);
    expect(taskMoRef).toMatch(/^task-/);
    expect(one).toMatchObject({ adopted: true });
    expect(two).toEqual(one);
    expect(await calls('CreateSnapshot_Task')).toBe(1);
  });

  it('does not trust a task handle the server has forgotten', async () => {
    const made = await vsphere.ensureSnapshot({ vmMoRef, ...start, taskMoRef: 'task-999999' });
    expect(made.adopted).toBe(false);
  });

  it('removes a snapshot, again without complaint, and keeps its children', async () => {
    const first = await vsphere.ensureSnapshot({ vmMoRef, ...start });
    const second = await vsphere.ensureSnapshot({ vmMoRef, ...start, name: 'vm without tools' });
    await vsphere.removeSnapshot(first);
    await vsphere.removeSnapshot(first);
    expect((await vsphere.listSnapshots({ vmMoRef })).map(({ moRef }) => moRef)).toEqual([second.snapshotMoRef]);
    expect(await calls('RemoveSnapshot_Task')).toBe(1);
  });

  it('[S77] removes exactly the approved ones, and the disks need no consolidation afterwards', async () => {
    const made = [];
    for (const name of ['a', 'b', 'c']) made.push(await vsphere.ensureSnapshot({ vmMoRef, name, ownerId: 'x' }));
    const [a, b, c] = made.map(({ snapshotMoRef }) => snapshotMoRef);
    await vsphere.removeSnapshots({ vmMoRef, snapshotMoRefs: [a ?? '', c ?? ''] });
    expect((await vsphere.listSnapshots({ vmMoRef })).map(({ moRef }) => moRef)).toEqual([b]);
    await vsphere.removeSnapshots({ vmMoRef, snapshotMoRefs: [b ?? ''] });
    await vsphere.waitForConsolidation({ vmMoRef });
    const vm = await vsphere.inspectVm({ vmMoRef });
    expect(vm).toMatchObject({ consolidationNeeded: false, snapshots: [] });
    expect(vm.disks.filter(({ fileName }) => /-\d{6}\.vmdk$/.test(fileName))).toEqual([]);
  });

  it('waits until whoever holds the disks lets go, then consolidates', async () => {
    const { snapshotMoRef } = await vsphere.ensureSnapshot({ vmMoRef, ...start });
    await lab.admin.setLocked('web01', true);
    await vsphere.removeSnapshot({ snapshotMoRef });
    expect((await vsphere.inspectVm({ vmMoRef })).consolidationNeeded).toBe(true);
    const blocked = await errorOf(vsphere.waitForConsolidation({ vmMoRef, attempts: 2 }));
    expect(blocked).toMatchObject({ type: 'ConsolidationBlocked', nonRetryable: false });
    const waiting = vsphere.waitForConsolidation({ vmMoRef, attempts: 20 });
    await lab.admin.setLocked('web01', false);
    await waiting;
    expect((await vsphere.inspectVm({ vmMoRef })).consolidationNeeded).toBe(false);
  });

  it('[S84] reverts to the starting point and leaves the VM off', async () => {
    const { snapshotMoRef } = await vsphere.ensureSnapshot({ vmMoRef, ...start });
    await lab.admin.guestWrite('web01', 2000, 0, Buffer.from('written after the snapshot'));
    await vsphere.revertToSnapshot({ snapshotMoRef });
    expect(await vsphere.powerState({ vmMoRef })).toBe('poweredOff');
    await vsphere.powerOn({ vmMoRef });
    expect((await vsphere.listSnapshots({ vmMoRef })).map(({ moRef }) => moRef)).toEqual([snapshotMoRef]);
  });

  it('says what the server objects to: another task, a full datastore, an unknown VM', async () => {
    await lab.admin.addRule({
      method: 'CreateSnapshot_Task',
      fault: 'TaskInProgress',
      detail: { task: { type: 'Task', value: 'task-1' } },
    });
    expect(await errorOf(vsphere.ensureSnapshot({ vmMoRef, ...start }))).toMatchObject({ type: 'SourceBusy' });
    await lab.admin.addRule({
      method: 'CreateSnapshot_Task',
      fault: 'NoDiskSpace',
      detail: { datastore: 'datastore1' },
    });
    const full = await errorOf(vsphere.ensureSnapshot({ vmMoRef, ...start }));
    expect(full).toMatchObject({ type: 'SourceRefused', nonRetryable: true });
    expect(full.message).toMatch(/"vm starting point"[\s\S]*NoDiskSpace[\s\S]*datastore1/);
    expect(await errorOf(vsphere.inspectVm({ vmMoRef: 'vm-9999' }))).toMatchObject({ type: 'SourceNotFound' });
  });
});
