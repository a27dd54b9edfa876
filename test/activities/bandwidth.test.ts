import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Bandwidth, limitsAt } from '../../src/activities/bandwidth.js';
import { loadConfig } from '../../src/config.js';
import { waitFor } from '../lab/wait-for.js';

const MIB = 2 ** 20;
const OPEN = Number.POSITIVE_INFINITY;

let folder: string;
let file: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'surefire-limits-'));
  file = join(folder, 'surefire.yaml');
});

afterEach(() => rmSync(folder, { recursive: true }));

function write(limits: string): string {
  writeFileSync(file, `vcenters: {}\npools: {}\ntransfer: { limits: ${limits} }\n`);
  return file;
}

const unlimited = async () => OPEN;

const limitsOf = (limits: string) => loadConfig(write(limits)).transfer.limits;

describe('limits of the configuration', () => {
  it('are none unless given, and hold for the host and for each disk', () => {
    expect(limitsAt(limitsOf('{}'), new Date())).toEqual({ host: OPEN, disk: OPEN });
    expect(limitsAt(limitsOf('{ hostMiBPerSecond: 400, diskMiBPerSecond: 150 }'), new Date())).toEqual({
      host: 400 * MIB,
      disk: 150 * MIB,
    });
  });

  it('[S144] are others at some hours of the day, in the time zone named, summer and winter', () => {
    const limits = limitsOf(
      '{ hostMiBPerSecond: 400, hours: [{ from: "08:00", to: "18:00", zone: Europe/Vienna, hostMiBPerSecond: 50 }] }',
    );
    const host = (at: string) => limitsAt(limits, new Date(at)).host / MIB;
    // UTC+2 in July, UTC+1 in December.
    expect(host('2026-07-01T05:59:59Z')).toBe(400);
    expect(host('2026-07-01T06:00:00Z')).toBe(50);
    expect(host('2026-12-01T06:30:00Z')).toBe(400);
    expect(host('2026-12-01T07:00:00Z')).toBe(50);
    expect(host('2026-12-01T16:59:59Z')).toBe(50);
    expect(host('2026-12-01T17:00:00Z')).toBe(400);
  });

  it('[S144] may span midnight, and may be nothing at all', () => {
    const limits = limitsOf('{ hostMiBPerSecond: 0, hours: [{ from: "22:00", to: "06:00" }] }');
    const host = (at: string) => limitsAt(limits, new Date(at)).host;
    expect(host('2026-12-01T23:00:00Z')).toBe(OPEN);
    expect(host('2026-12-01T05:59:00Z')).toBe(OPEN);
    expect(host('2026-12-01T12:00:00Z')).toBe(0);
  });

  it('refuse what is no time of day and no time zone, by the key', () => {
    const refused = (limits: string) => () => limitsOf(limits);
    expect(refused('{ hours: [{ from: "8:00", to: "18:00" }] }')).toThrow(
      'transfer.limits.hours.0.from: must be a time of day',
    );
    expect(refused('{ hours: [{ from: "08:00", to: "24:00" }] }')).toThrow(
      'transfer.limits.hours.0.to: must be a time of day',
    );
    expect(refused('{ hours: [{ from: "08:00", to: "18:00", zone: Vienna }] }')).toThrow('must be a time zone');
    expect(refused('{ hostMiBPerSecond: -1 }')).toThrow('transfer.limits.hostMiBPerSecond: must be >=0');
  });
});

describe('a limit', () => {
  it('[S143] of a migration is followed by its disks together, and holds while nobody can be asked', async () => {
    const bandwidth = new Bandwidth(loadConfig(write('{ hostMiBPerSecond: 400 }')));
    let mibPerSecond: number | undefined = 50;
    let asked = 0;
    const ask = async () => {
      asked += 1;
      if (mibPerSecond === undefined) throw new Error('no worker answers');
      return mibPerSecond * MIB;
    };
    const [one, two] = [bandwidth.forDisk('m', ask), bandwidth.forDisk('m', ask)];
    const other = bandwidth.forDisk('another', unlimited);
    await waitFor(() => one.limit === 50 * MIB, 'the limit');
    expect([two.limit, other.limit]).toEqual([50 * MIB, 400 * MIB]);
    mibPerSecond = undefined;
    const before = asked;
    await waitFor(() => two.limit > 0 && asked > before + 1, 'two questions in vain');
    expect(one.limit).toBe(50 * MIB);
    mibPerSecond = 20;
    await waitFor(() => two.limit === 20 * MIB && one.limit === 20 * MIB, 'the new limit');
  });

  it('is changed in the file while a transfer runs, and a mistake there changes nothing', async () => {
    const said: string[] = [];
    const bandwidth = new Bandwidth(loadConfig(write('{ hostMiBPerSecond: 400 }')), (text) => said.push(text));
    const disk = bandwidth.forDisk('m', unlimited);
    expect(disk.limit).toBe(400 * MIB);
    write('{ hostMiBPerSecond: 400, diskMiBPerSecond: 20 }');
    await waitFor(() => disk.limit === 20 * MIB, 'the new limit');
    write('{ hostMiBPerSecond: fast }');
    await waitFor(() => disk.limit > 0 && said.length > 0, 'the complaint');
    expect(disk.limit).toBe(20 * MIB);
    expect(said[0]).toContain('transfer.limits.hostMiBPerSecond');
    write('{}');
    await waitFor(() => disk.limit === OPEN, 'no limit');
    expect(said).toHaveLength(1);
  });
});
