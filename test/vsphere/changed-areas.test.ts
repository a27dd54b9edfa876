import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { extentsFromChangedAreas } from '../../src/vsphere/changed-areas.js';
import type { Vsphere } from '../../src/vsphere/index.js';
import { errorOf, moRefOf, plainVm, startTestLab, type TestLab } from './lab.js';

const KiB = 1024;
const GRAIN = 64 * KiB;

describe('extentsFromChangedAreas', () => {
  const capacity = 1024 * KiB;
  const extents = (areas: [start: number, length: number][]) =>
    extentsFromChangedAreas(
      areas.map(([start, length]) => ({ start, length })),
      capacity,
    );

  it('sorts areas, merges those that touch, and keeps a gap of 512 bytes', () => {
    expect(
      extents([
        [4096, 4096],
        [0, 4096],
        [8704, 512],
      ]),
    ).toEqual([
      { offset: 0, length: 8192, kind: 'data' },
      { offset: 8704, length: 512, kind: 'data' },
    ]);
  });

  it('yields no extent for a disk that did not change', () => {
    expect(extents([])).toEqual([]);
  });

  it('cuts nothing when the last area ends exactly at the end of the disk', () => {
    expect(extents([[capacity - 512, 512]])).toEqual([{ offset: capacity - 512, length: 512, kind: 'data' }]);
  });

  it.each([
    [
      'overlap',
      [
        [0, 4096],
        [2048, 4096],
      ],
      /0\+4096 and 2048\+4096 overlap/,
    ],
    ['end past the disk', [[capacity - 512, 1024]], /ends past the disk/],
    ['are empty', [[0, 0]], /empty/],
    ['are not made of sectors', [[100, 512]], /512-byte/],
  ] as [string, [number, number][], RegExp][])('refuses areas that %s', (_what, areas, message) => {
    expect(() => extents(areas)).toThrow(message);
    expect(() => extents(areas)).toThrow(expect.objectContaining({ type: 'ChangedAreasInvalid' }));
  });
});

describe('queryChangedAreas', () => {
  let lab: TestLab;
  let vsphere: Vsphere;
  let vmMoRef: string;
  // A size that is no multiple of anything but a sector.
  const capacityBytes = 8 * 1024 * KiB + 512;
  beforeAll(async () => {
    lab = await startTestLab({ vms: [plainVm('web01', { disks: [{ capacityBytes }] })] });
    vsphere = lab.connect();
    vmMoRef = await moRefOf(vsphere, 'web01');
  });
  afterAll(() => lab?.end());

  const write = (offset: number, length: number) =>
    lab.admin.guestWrite('web01', 2000, offset, Buffer.alloc(length, 7));
  const changeIdOf = async (snapshotMoRef: string) => {
    const [disk] = await vsphere.snapshotDisks({ snapshotMoRef });
    expect(disk?.capacityBytes).toBe(capacityBytes);
    return disk?.changeId;
  };
  const take = async (name: string) => (await vsphere.ensureSnapshot({ vmMoRef, name, ownerId: 'm/1' })).snapshotMoRef;
  const query = (snapshotMoRef: string, changeId: string) =>
    vsphere.queryChangedAreas({ vmMoRef, snapshotMoRef, deviceKey: 2000, changeId, capacityBytes });

  it('finds what was written between two snapshots, one area per page and through empty pages', async () => {
    await vsphere.setChangeTracking({ vmMoRef, enabled: true });
    await lab.admin.clearCalls();
    await vsphere.setChangeTracking({ vmMoRef, enabled: true });
    expect((await lab.admin.calls()).map(({ method }) => method)).not.toContain('ReconfigVM_Task');
    // The first snapshot is the stun: it has no changeId yet, the second one does (R1).
    const baseline = await take('B');
    expect(await changeIdOf(baseline)).toBeUndefined();
    const clean = await take('C');
    const since = (await changeIdOf(clean)) ?? '';
    expect(since).toMatch(/\/\d+$/);

    await write(0, 512);
    await write(5 * GRAIN + 100, 10);
    await write(6 * GRAIN, 1);
    await write(capacityBytes - 1, 1);
    const next = await take('S1');
    const expected = [
      { offset: 0, length: GRAIN, kind: 'data' },
      { offset: 5 * GRAIN, length: 2 * GRAIN, kind: 'data' },
      { offset: 128 * GRAIN, length: 512, kind: 'data' },
    ];
    expect(await query(next, since)).toEqual(expected);

    for (const paging of [{ extents: 1 }, { extents: 2, span: GRAIN }, { span: 10 * GRAIN }]) {
      await lab.admin.setPaging(paging);
      await lab.admin.clearCalls();
      expect(await query(next, since)).toEqual(expected);
      const pages = (await lab.admin.calls()).filter(({ method }) => method === 'QueryChangedDiskAreas').length;
      expect(pages).toBeGreaterThan(1);
    }
    await lab.admin.setPaging({ extents: 2000, span: 0 });

    // Nothing since the snapshot itself.
    expect(await query(next, (await changeIdOf(next)) ?? '')).toEqual([]);
    // Removing snapshots in between changes no answer (R2).
    await vsphere.removeSnapshot({ snapshotMoRef: baseline });
    await vsphere.removeSnapshot({ snapshotMoRef: clean });
    await vsphere.waitForConsolidation({ vmMoRef });
    expect(await query(next, since)).toEqual(expected);
  });

  it('says ChangeTrackingReset when the epoch has ended', async () => {
    const before = await take('before');
    const changeId = (await changeIdOf(before)) ?? '';
    await lab.admin.resetTracking('web01');
    const after = await take('after');
    const error = await errorOf(query(after, changeId));
    expect(error).toMatchObject({ type: 'ChangeTrackingReset', nonRetryable: true });
    expect(error.message).toContain(changeId);
  });

  it('asks the running VM for nothing without a snapshot', async () => {
    const error = await errorOf(vsphere.queryChangedAreas({ vmMoRef, deviceKey: 2000, changeId: '*', capacityBytes }));
    expect(error).toMatchObject({ type: 'ChangeTrackingReset' });
  });
});
