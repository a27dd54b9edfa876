import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  limitFindings,
  QCOW2_LIMIT_BYTES,
  recommendedMaxima,
  sizeFinding,
  spaceFindings,
  VHD_LIMIT_BYTES,
  type SrFacts,
  type TargetLimits,
  type TargetPlan,
} from '../../src/xapi/index.js';
import { EXTERNAL, GIB, startTestPool, uuidOfNetwork, uuidOfSr, type TestPool } from './lab.js';
import { makeTarget } from './specs.js';

const thin: SrFacts = {
  uuid: 'sr',
  name: 'ssd',
  type: 'ext',
  sizeBytes: 100 * GIB,
  usedBytes: 40 * GIB,
  thick: false,
  formats: ['vhd'],
};
const thick: SrFacts = { ...thin, type: 'lvm', thick: true };
const disks = (...sizes: number[]) => sizes.map((capacityBytes, index) => ({ label: `disk ${index}`, capacityBytes }));

describe('space (R26)', () => {
  it('wants three times the virtual size on a thick SR, to the byte', () => {
    const plan = (bytes: number) => ({ name: 'web01', disks: disks(bytes / 2, bytes / 2) });
    expect(spaceFindings(plan(20 * GIB), thick)).toEqual([]);
    expect(spaceFindings(plan(20 * GIB + 2), thick)).toMatchObject([{ code: 'T2', severity: 'error' }]);
    expect(spaceFindings(plan(20 * GIB + 2 * GIB), thick)[0]!.remedy).toContain('free 6.0 GiB');
  });

  it('warns on a thin SR that would run full if the disks were', () => {
    expect(spaceFindings({ name: 'web01', disks: disks(60 * GIB) }, thin)).toEqual([]);
    expect(spaceFindings({ name: 'web01', disks: disks(61 * GIB) }, thin)).toMatchObject([{ severity: 'warning' }]);
  });
});

describe('[S9] [S10] disks beyond VHD', () => {
  it.each([
    // A size between two sectors is no disk, on whichever side of the limit.
    [VHD_LIMIT_BYTES, -1, ['vhd'], 1],
    [VHD_LIMIT_BYTES, -512, ['vhd'], 0],
    [VHD_LIMIT_BYTES, 0, ['vhd'], 0],
    [VHD_LIMIT_BYTES, 1, ['vhd'], 1],
    [VHD_LIMIT_BYTES, 512, ['vhd'], 1],
    [VHD_LIMIT_BYTES, 512, ['vhd', 'qcow2'], 0],
    [QCOW2_LIMIT_BYTES, -512, ['vhd', 'qcow2'], 0],
    [QCOW2_LIMIT_BYTES, 0, ['qcow2'], 0],
    [QCOW2_LIMIT_BYTES, 1, ['vhd', 'qcow2'], 1],
    [QCOW2_LIMIT_BYTES, 512, ['vhd', 'qcow2'], 1],
    [0, 0, ['vhd'], 1],
    [0, 512, ['vhd'], 0],
  ])('%d%+d bytes on an SR with %j: %d findings', (limit, more, formats, count) => {
    const found = sizeFinding({ label: 'Hard disk 1', capacityBytes: limit + more }, { ...thin, formats });
    expect(found).toHaveLength(count);
    expect(found.every(({ severity }) => severity === 'error')).toBe(true);
  });
});

describe('[S73] limits', () => {
  const limits: TargetLimits = {
    allowed: { nics: 16, disks: 254 },
    hostMemoryBytes: 64 * GIB,
    recommended: { nics: 7, disks: 255, memoryBytes: 32 * GIB, cpuCount: 16 },
  };
  const plan = (changes: Partial<TargetPlan>): TargetPlan => ({
    name: 'web01',
    srUuid: 'sr',
    firmware: 'bios',
    secureBoot: false,
    instanceUuid: 'i',
    disks: disks(GIB),
    nics: [],
    ...changes,
  });
  const cards = (count: number) => Array.from({ length: count }, () => ({ mac: 'm', networkUuid: 'n' }));
  const said = (changes: Partial<TargetPlan>) =>
    limitFindings(plan(changes), limits).map(({ code, severity }) => `${code} ${severity}`);

  it.each([
    [{ nics: cards(7) }, []],
    [{ nics: cards(8) }, ['T4 warning']],
    [{ nics: cards(16) }, ['T4 warning']],
    [{ nics: cards(17) }, ['T4 error']],
    [{ disks: disks(...Array<number>(254).fill(512)) }, []],
    [{ disks: disks(...Array<number>(255).fill(512)) }, ['T5 error']],
    [{ memoryBytes: 32 * GIB }, []],
    [{ memoryBytes: 33 * GIB }, ['T9 warning']],
    [{ memoryBytes: 65 * GIB, cpuCount: 17 }, ['T9 error', 'T10 warning']],
  ])('case %#: %j', (changes, expected) => {
    expect(said(changes)).toEqual(expected);
  });

  it('reads what a template recommends', () => {
    const xml =
      '<restrictions><restriction field="memory-static-max" max="137438953472"/>' +
      '<restriction field="vcpus-max" max="32"/><restriction property="number-of-vbds" max="255"/>' +
      '<restriction field="allow-gpu-passthrough" value="0"/><restriction max="9" property="number-of-vifs"/>' +
      '<restriction property="number-of-vifs" min="0" max="7"/></restrictions>';
    expect(recommendedMaxima(xml)).toEqual({
      'memory-static-max': 137438953472,
      'vcpus-max': 32,
      'number-of-vbds': 255,
      'number-of-vifs': 7,
    });
    expect(recommendedMaxima('')).toEqual({});
  });
});

describe('targetFindings', () => {
  let pool: TestPool;
  beforeAll(async () => {
    pool = await startTestPool();
  });
  afterAll(() => pool.end());

  const planFor = async (changes: Partial<TargetPlan> = {}): Promise<TargetPlan> => ({
    name: 'web01',
    srUuid: await uuidOfSr(pool, 'Local thin'),
    firmware: 'bios',
    secureBoot: false,
    instanceUuid: 'instance-1',
    disks: disks(GIB),
    nics: [{ mac: '00:50:56:00:00:01', networkUuid: await uuidOfNetwork(pool, EXTERNAL) }],
    memoryBytes: 2 * GIB,
    cpuCount: 2,
    ...changes,
  });

  it('has nothing to say about a VM that fits', async () => {
    expect(await pool.connect().targetFindings(await planFor())).toEqual([]);
  });

  it('asks the pool for memory, and names a network that is not there', async () => {
    const found = await pool
      .connect()
      .targetFindings(
        await planFor({ memoryBytes: 257 * GIB, nics: [{ mac: 'm', networkUuid: 'nowhere' }], firmware: 'uefi' }),
      );
    expect(found.map(({ code, severity }) => [code, severity])).toEqual([
      ['T9', 'error'],
      ['T6', 'warning'],
      ['T7', 'error'],
    ]);
    expect(found[0]!.expected).toBe('at most 256.0 GiB');
  });

  it('[S73] [S123] asks XAPI and the template how many cards and disks a VM may have', async () => {
    const xapi = pool.connect();
    const network = await uuidOfNetwork(pool, EXTERNAL);
    const cards = (count: number) => Array.from({ length: count }, () => ({ mac: 'm', networkUuid: network }));
    expect(await xapi.targetFindings(await planFor({ nics: cards(7) }))).toEqual([]);
    const [refused] = await xapi.targetFindings(await planFor({ nics: cards(8) }));
    expect(refused).toMatchObject({ code: 'T4', severity: 'error', expected: 'at most 7' });
    expect(refused?.remedy).toContain('https://docs.xcp-ng.org/');
    const many = await xapi.targetFindings(await planFor({ disks: disks(...Array<number>(255).fill(512)) }));
    expect(many).toMatchObject([{ code: 'T5', severity: 'error', expected: 'at most 254' }]);
    // What the template recommends is another thing: a warning.
    const [template] = (await pool.records('VM')).find(([, vm]) => /^other install/i.test(String(vm['name_label'])))!;
    const said = await pool.raw.call('VM.get_recommendations', template);
    await pool.raw.call('VM.set_recommendations', template, '<restriction property="number-of-vifs" max="3"/>');
    expect(await xapi.targetFindings(await planFor({ nics: cards(4) }))).toMatchObject([
      { code: 'T4', severity: 'warning', expected: 'at most 3, as the template recommends' },
    ]);
    await pool.raw.call('VM.set_recommendations', template, said);
  });

  it('says what becomes of a sampled read-back where the pool offers no NBD', async () => {
    const xapi = pool.connect();
    const plan = await planFor({ verify: 'sampled' });
    expect(await xapi.targetFindings({ ...plan, verify: 'full' })).toEqual([]);
    const [told] = await xapi.targetFindings(plan);
    expect(told).toMatchObject({ code: 'T11', severity: 'info', object: 'web01' });
    expect(told?.observed).toContain('every pass will be read back in full');
    const [network] = await pool.raw.call<string[]>('network.get_by_name_label', EXTERNAL);
    await pool.raw.call('network.add_purpose', network, 'nbd');
    expect(await xapi.targetFindings(plan)).toEqual([]);
    await pool.raw.call('network.remove_purpose', network, 'nbd');
  });

  it('refuses a VM that was migrated here before, unless a reason is given (R12)', async () => {
    const xapi = pool.connect();
    const { vmUuid } = await makeTarget(pool, xapi, 'm-before');
    await xapi.markFinished(vmUuid, 'instance-2');
    expect(await xapi.targetFindings(await planFor())).toEqual([]);
    const plan = await planFor({ instanceUuid: 'instance-2' });
    expect(await xapi.targetFindings(plan)).toMatchObject([{ code: 'T8', severity: 'error' }]);
    expect(await xapi.targetFindings({ ...plan, repeatReason: 'lost' })).toMatchObject([{ severity: 'warning' }]);
  });
});
