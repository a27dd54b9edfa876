import { expect, test } from 'vitest';
import type { DiskState } from '../../src/shared/index.js';
import { needsParent, refuseResized, untrackedInOutage } from '../../src/workflows/deltas.js';
import type { Migration } from '../../src/workflows/state.js';

const GIB = 2 ** 30;
const disk = (changes: Partial<DiskState>): DiskState => ({
  ...{ deviceKey: 2000, label: 'Hard disk 1', capacityBytes: GIB, passes: [] },
  ...changes,
});
const migration = (...disks: DiskState[]) => ({ input: { vm: 'web01' }, transport: 'vddk', disks }) as Migration;

test('a disk that has grown since the start stops the migration: the target would lose its end', () => {
  const frozen = (capacityBytes: number) => ({
    disks: [{ deviceKey: 2000, fileName: '', baseFileName: '', capacityBytes }],
    ...{ snapshotMoRef: 'snapshot-1', createTime: '' },
  });
  expect(() => refuseResized(migration(disk({})), frozen(GIB))).not.toThrow();
  expect(() => refuseResized(migration(disk({})), frozen(2 * GIB))).toThrow(
    /Hard disk 1 of web01 has 2.0 GiB now; it had 1.0 GiB when the migration began/,
  );
});

test('before the outage it is said which disks are read whole in it, and which a broken cutover has written to', () => {
  expect(untrackedInOutage(migration(disk({ deltaBy: 'cbt', writtenBy: 'final-1' })))).toBe('');
  expect(untrackedInOutage(migration(disk({ deltaBy: 'single-link' })))).toBe('');
  expect(untrackedInOutage(migration(disk({ deltaBy: 'compare' }), disk({ deltaBy: 'cbt' })))).toBe(
    ' Without change tracking 1 disk with 1.0 GiB will be read whole in the outage, and compared.',
  );
  expect(untrackedInOutage(migration(disk({ deltaBy: 'compare', writtenBy: 'final-1' })))).toMatch(
    /^ A cutover that came to nothing has written to 1 disk with 1.0 GiB/,
  );
});

test('the snapshot copied last stays for single-link alone, and only while VDDK reads', () => {
  expect(needsParent(migration(disk({ deltaBy: 'cbt' }), disk({ deltaBy: 'compare' })))).toBe(false);
  expect(needsParent(migration(disk({ deltaBy: 'cbt' }), disk({ deltaBy: 'single-link' })))).toBe(true);
  expect(needsParent({ transport: 'https', disks: [disk({ deltaBy: 'single-link' })] })).toBe(false);
});
