import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { seededBytes } from '../../lab/disks/random.js';
import { VsphereAdmin } from '../../lab/vsphere/admin.js';
import { startVsphere, type RunningVsphere } from '../../lab/vsphere/start.js';
import { RawVim } from './raw-vim.js';

const SIZE = 4 * 1024 ** 2 + 1536;
const ROUNDS = 6;
const scenario = { vms: [{ name: 'web', poweredOn: true, changeTracking: true, disks: [{ capacityBytes: SIZE }] }] };

let stateDir: string;
let lab: RunningVsphere | undefined;

beforeAll(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'surefire-kill-'));
});

afterAll(async () => {
  await lab?.kill();
  await rm(stateDir, { recursive: true, force: true });
});

/** A whole number from 0 up to, not including, `end`; the same for the same seed. */
const chance = (seed: string, end: number): number => seededBytes(seed, 6).readUIntBE(0, 6) % end;

it('keeps every acknowledged write through kill -9 amid writes, snapshots and consolidations', async () => {
  const want = Buffer.alloc(SIZE);
  let pending: { offset: number; data: Buffer } = { offset: 0, data: Buffer.alloc(0) };
  let snapshots = 0;

  for (let round = 0; round <= ROUNDS; round++) {
    const running = await startVsphere({ stateDir, scenario });
    lab = running;
    const admin = new VsphereAdmin(running.adminUrl);
    const vim = new RawVim(running);
    await vim.login();
    const { moRef } = await admin.vm('web');
    const write = async (): Promise<void> => {
      await admin.guestWrite('web', 2000, pending.offset, pending.data);
      pending.data.copy(want, pending.offset);
    };

    await write(); // the write that the kill cut off may be there or not: now it is
    await vim.task('VirtualMachine', moRef, 'RemoveAllSnapshots_Task');
    const folder = join(running.root, 'datastore1/web');
    expect((await readFile(join(folder, 'web-flat.vmdk'))).equals(want), `content in round ${round}`).toBe(true);
    expect((await readdir(folder)).filter((name) => /@|-0000|parent/.test(name))).toEqual([]);

    const alive = { yes: true };
    const untilKilled = (work: (i: number) => Promise<void>): Promise<void> =>
      (async () => {
        for (let i = 0; alive.yes; i++) await work(i);
      })().catch((error: unknown) => {
        if (alive.yes) throw error;
      });
    const guest = untilKilled(async (i) => {
      const data = seededBytes(`data ${round} ${i}`, 1 + chance(`length ${round} ${i}`, 200_000));
      pending = { offset: chance(`offset ${round} ${i}`, SIZE - data.length), data };
      await write();
    });
    const have: string[] = [];
    const operator = untilKilled(async (i) => {
      const oldest = have.length > 2 || chance(`operator ${round} ${i}`, 2) === 0 ? have.shift() : undefined;
      if (oldest === undefined) have.push(await vim.snapshot(moRef, `s${++snapshots}`));
      else await vim.removeSnapshot(oldest);
    });
    // Not a wait for something: the moment of the kill is what differs between rounds.
    await sleep(100 + chance(`kill ${round}`, 500));
    alive.yes = false;
    await running.kill();
    await Promise.all([guest, operator]);
  }
  expect(snapshots).toBeGreaterThan(0);
});
