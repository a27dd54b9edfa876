import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { singleLinkObstacle, trackingObstacle } from '../../src/activities/delta-obstacles.js';
import type { PreflightPlan } from '../../src/activities/types.js';
import type { DiskState, Finding, RecordEntry, Transport } from '../../src/shared/index.js';
import type { Vsphere } from '../../src/vsphere/index.js';
import { chooseDeltas } from '../../src/workflows/deltas.js';
import type { Migration } from '../../src/workflows/state.js';
import { moRefOf, plainVm, startTestLab, type TestLab } from '../vsphere/lab.js';

const SIZE = 1 << 20;

describe.each(['6.0', '6.5', '6.7', '7.0', '8.0'])('a vCenter of API version %s', (apiVersion) => {
  let lab: TestLab;
  let vsphere: Vsphere;
  beforeAll(async () => {
    lab = await startTestLab({
      apiVersion,
      vms: [
        plainVm('mixed', { disks: [{ capacityBytes: SIZE }, { capacityBytes: SIZE, noTracking: true }] }),
        plainVm('old', { version: 'vmx-04', disks: [{ capacityBytes: SIZE }] }),
      ],
    });
    vsphere = lab.connect();
  });
  afterAll(() => lab?.end());

  /** What preflight finds out, and what the clean snapshot shows, as the procedure has it. */
  async function chosen(name: string, transport: Transport) {
    const vmMoRef = await moRefOf(vsphere, name);
    const vm = await vsphere.inspectVm({ vmMoRef });
    const asked = await vsphere.about();
    expect(asked.apiVersion).toBe(apiVersion);
    const withoutChangeTracking = trackingObstacle(vm);
    if (withoutChangeTracking === undefined) await vsphere.setChangeTracking({ vmMoRef, enabled: true });
    const take = (snapshot: string) => vsphere.ensureSnapshot({ vmMoRef, name: snapshot, ownerId: 'm/1' });
    await take('vm starting point');
    const { adopted: _adopted, ...taken } = await take('vm without tools');
    const disks = await vsphere.snapshotDisks(taken);
    const record: Pick<RecordEntry, 'text' | 'evidence'>[] = [];
    const findings: Finding[] = [];
    const source = {
      ...(withoutChangeTracking !== undefined && { withoutChangeTracking }),
      disks: vm.disks.map((disk) => ({
        ...{ deviceKey: disk.deviceKey, singleLinkObstacle: singleLinkObstacle(disk, vm, { transport, apiVersion }) },
      })),
    } as PreflightPlan['source'];
    const states = vm.disks.map(({ deviceKey, label }): DiskState => ({
      deviceKey,
      label,
      capacityBytes: SIZE,
      passes: [],
    }));
    const migration = {
      input: { vm: name },
      plan: { source },
      disks: states,
      findings: [],
      note: (text: string, _word: unknown, evidence: Record<string, unknown>) => record.push({ text, evidence }),
      set: (change: { findings: Finding[] }) => findings.push(...change.findings),
    } as unknown as Migration;
    chooseDeltas(migration, { ...taken, disks });
    return {
      methods: states.map(({ deltaBy }) => deltaBy),
      why: states.map(({ untracked }) => untracked),
      record,
      findings,
    };
  }

  const overVddk = apiVersion === '6.0' ? 'compare' : 'single-link';

  it('[S5] has deltas of tracked disks by CBT, of others by single-link from 6.5 on, else by comparison, and records it', async () => {
    const { methods, why, record, findings } = await chosen('mixed', 'vddk');
    expect(methods).toEqual(['cbt', overVddk]);
    expect(why[0]).toBeUndefined();
    expect(why[1]).toContain('change tracking is on, but has no effect');
    if (apiVersion === '6.0') expect(why[1]).toContain('vSphere 6.0 does not report the extents of a snapshot');
    expect(record).toHaveLength(1);
    expect(JSON.stringify(record)).toContain(`Hard disk 2: deltas by ${overVddk}`);
    expect(findings).toMatchObject([{ code: 'V5', severity: 'warning', object: 'mixed: Hard disk 2' }]);
    expect((await chosen('mixed', 'https')).methods).toEqual(['cbt', 'compare']);
  });

  it('[S5] warns before it begins where the VM cannot track, and finds deltas all the same', async () => {
    const { methods, why, findings } = await chosen('old', 'vddk');
    expect(methods).toEqual([overVddk]);
    expect(why[0]).toContain('change tracking is not supported (virtual hardware 4)');
    // Preflight has said so.
    expect(findings).toEqual([]);
    expect((await chosen('old', 'https')).methods).toEqual(['compare']);
  });
});

describe('singleLinkObstacle', () => {
  it('is the older of host and vCenter, the library, the format, or another VM below', () => {
    const disk = { kind: 'flat' } as never;
    const at = (host: string) => ({ host: { apiVersion: host } }) as never;
    const asked = { transport: 'vddk' as const, apiVersion: '7.0' };
    const library = (version: string) => ({ vddk: { usable: true, version } }) as never;
    expect(singleLinkObstacle(disk, at('6.7'), asked)).toBeUndefined();
    expect(singleLinkObstacle(disk, at('6.0'), asked)).toContain('vSphere 6.0');
    expect(singleLinkObstacle(disk, at('7.0'), { ...asked, probe: library('6.5.4') })).toBe('VDDK 6.5.4 gives no map');
    expect(singleLinkObstacle(disk, at('7.0'), { ...asked, probe: library('8') })).toBeUndefined();
    expect(singleLinkObstacle({ kind: 'sesparse' } as never, at(''), asked)).toBe('its format is sesparse');
    expect(singleLinkObstacle({ kind: 'flat', linkedCloneOf: 'x' } as never, at(''), asked)).toBe(
      'it is a linked clone',
    );
  });
});
