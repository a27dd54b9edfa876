import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CheckedVm } from '../../lab/demo/checks.js';
import type { MigrationReport } from '../../src/shared/index.js';
import { allocationOf } from './world.js';

const MAIN = fileURLToPath(new URL('../../dist/lab/demo/main.js', import.meta.url));
const DEMO_MS = 600_000;
/** The lab tracks changes in grains of this size; the guest writes 96.5 KiB once after the first copy. */
const GRAIN_BYTES = 64 * 1024;
const MOST_GRAINS = 3;

type Line = Record<string, unknown> & { schema: number };

let folder: string;
let exitCode: number | undefined;
let stderr: string;
let lines: Line[];

const stateDir = () => join(folder, 'state');
const vms = () => lines.at(-1)?.['vms'] as CheckedVm[];
const disks = () => vms().flatMap((vm) => vm.disks.map((disk) => ({ vm: vm.name, ...disk })));
const reports = () =>
  lines.filter(({ event }) => event === 'end').map(({ report }) => report as unknown as MigrationReport);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'surefire-demo-'));
  const args = [MAIN, '--yes', '--json', '--state-dir', stateDir()];
  const done = await execa(process.execPath, args, { reject: false, timeout: DEMO_MS, forceKillAfterDelay: 20_000 });
  ({ exitCode, stderr } = done);
  lines = done.stdout.split('\n').map((line) => JSON.parse(line) as Line);
}, DEMO_MS + 30_000);

afterAll(() => rm(folder, { recursive: true, force: true }));

describe('npm run demo -- --yes --json', () => {
  it('ends with code 0, says nothing on stderr, and prints JSON objects only', () => {
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    expect(lines.every(({ schema }) => schema === 1)).toBe(true);
  });

  it('[S63] [S105] says in its last line that both VMs went over, hot, and that copy and target booted', () => {
    const digest = expect.stringMatching(/^[0-9a-f]{64}$/) as string;
    const count = expect.any(Number) as number;
    const disk = {
      deltaMethod: 'cbt',
      source: expect.stringContaining(stateDir()) as string,
      target: expect.stringContaining(stateDir()) as string,
      virtualSizeBytes: count,
      allocatedBytes: count,
      bytesRead: count,
      bytesSent: count,
      sourceDigest: digest,
      targetDigest: digest,
    };
    const vm = { outcome: 'migrated', testCopyBooted: true, targetBooted: true, downtimeSeconds: count };
    expect(lines.at(-1)).toMatchObject({
      schema: 1,
      outcome: 'passed',
      stateDir: stateDir(),
      vms: [
        { ...vm, name: 'web01', firmware: 'bios', transport: 'vddk', disks: [disk] },
        { ...vm, name: 'db01', firmware: 'uefi', transport: 'https', disks: [disk, disk] },
      ],
      leftovers: [],
    });
    for (const { name, downtimeSeconds } of vms()) expect(downtimeSeconds, name).toBeGreaterThan(0);
    const odd = disks().filter(({ virtualSizeBytes }) => virtualSizeBytes % GRAIN_BYTES !== 0);
    expect(odd.map(({ vm, virtualSizeBytes }) => [vm, virtualSizeBytes % 512])).toEqual([['db01', 0]]);
  });

  it('[S115] leaves the raw files of both sides, which `cmp` finds equal up to a tail of zeroes', async () => {
    for (const { source, target, virtualSizeBytes, sourceDigest, targetDigest } of disks()) {
      expect(targetDigest).toBe(sourceDigest);
      expect((await stat(source)).size).toBe(virtualSizeBytes);
      await execa('cmp', ['-n', String(virtualSizeBytes), source, target]);
      const tail = (await stat(target)).size - virtualSizeBytes;
      expect(tail).toBeGreaterThanOrEqual(0);
      if (tail > 0) await execa('cmp', ['-n', String(tail), '-i', `${virtualSizeBytes}:0`, target, '/dev/zero']);
    }
  });

  it('[S116] [D2] sent each allocated block once, and at cutover only what the guest wrote since', async () => {
    for (const { vm, source, bytesSent, baseBytesSent, deltaBytesSent } of disks()) {
      expect(bytesSent, vm).toBe(baseBytesSent + deltaBytesSent);
      expect(deltaBytesSent, vm).toBeGreaterThan(0);
      expect(deltaBytesSent, vm).toBeLessThanOrEqual(MOST_GRAINS * GRAIN_BYTES);
      const { bytes, extents } = await allocationOf(source);
      expect(baseBytesSent, vm).toBeLessThanOrEqual(bytes + 2 * extents * GRAIN_BYTES);
    }
  });

  it('[S28] moved more than nine tenths of the bytes before it switched a source off', () => {
    expect(
      reports()
        .map(({ vm }) => vm)
        .sort(),
    ).toEqual(['db01', 'web01']);
    for (const { vm, warmShare } of reports()) expect(warmShare, vm).toBeGreaterThan(0.9);
    for (const { baseBytesSent, bytesSent } of disks()) expect(baseBytesSent / bytesSent).toBeGreaterThan(0.9);
  });

  it('leaves no process behind', async () => {
    expect(await commandsNaming(folder)).toEqual([]);
  });
});

/** Command lines of all processes on this machine that name something in a folder. */
async function commandsNaming(path: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const commands = await Promise.all(
    pids.map((pid) => readFile(join('/proc', pid, 'cmdline'), 'utf8').catch(() => '')),
  );
  return commands.filter((command) => command.includes(path)).map((command) => command.replaceAll('\0', ' '));
}
