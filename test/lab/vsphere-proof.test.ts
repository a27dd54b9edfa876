import { mkdtemp, open, readFile, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cachePath } from '../../lab/cache.js';
import { seededBytes } from '../../lab/disks/random.js';
import { makeVddkLibdir } from '../../lab/vddk/libdir.js';
import { VsphereAdmin } from '../../lab/vsphere/admin.js';
import { startVsphere, type RunningVsphere } from '../../lab/vsphere/start.js';
import { RawVim, textOf } from './raw-vim.js';
import { waitFor } from './wait-for.js';

// Base copy plus changed areas is the final disk, byte for byte: hot, hot delta and cold delta, over nbdkit's curl
// plugin on /folder and over the real vddk plugin on the mock library. What the disk should hold is kept here, in `want`.
const MiB = 1024 ** 2;
const SIZE = 48 * MiB + 1536; // no multiple of a tracking grain
const DISK = 2000;
const TRANSPORTS = ['https', 'vddk'] as const;
type Transport = (typeof TRANSPORTS)[number];

const want = Buffer.alloc(SIZE);
let home: string;
let lab: RunningVsphere;
let admin: VsphereAdmin;
let vim: RawVim;
let vm: string;
let nbdkit: string;
let libdir: string;
let writes = 0;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'surefire-proof-'));
  nbdkit = (await readFile(cachePath('nbdkit.path'), 'utf8')).trim();
  seededBytes('start', 12 * MiB).copy(want);
  seededBytes('middle', 40 * 65536).copy(want, 500 * 65536);
  const seed = join(home, 'seed.raw');
  await writeFile(seed, '');
  await truncate(seed, SIZE);
  await writeAt(seed, 0, want.subarray(0, 12 * MiB));
  await writeAt(seed, 500 * 65536, want.subarray(500 * 65536, 540 * 65536));
  lab = await startVsphere({
    stateDir: join(home, 'state'),
    scenario: {
      password: 's3cret&<x>',
      apiVersion: '8.0.2.0',
      paging: { extents: 3, span: 4 * MiB },
      datastores: [{ name: 'ds1' }],
      vms: [{ name: 'web', poweredOn: true, tools: 'running', shutdownSeconds: 0.2, disks: [{ file: seed }] }],
    },
  });
  admin = new VsphereAdmin(lab.adminUrl);
  vim = new RawVim(lab);
  vm = (await admin.vm('web')).moRef;
  libdir = await makeVddkLibdir({
    dir: join(home, 'vddk'),
    root: lab.root,
    server: '127.0.0.1',
    port: Number(new URL(lab.url).port),
    username: lab.username,
    password: lab.password,
    thumbprintSha1: lab.thumbprintSha1,
  });
  await writeFile(join(home, 'password'), lab.password, { mode: 0o600 });
});

afterAll(async () => {
  await lab?.stop();
  await rm(home, { recursive: true, force: true });
});

async function writeAt(file: string, offset: number, data: Uint8Array): Promise<void> {
  const handle = await open(file, 'r+');
  await handle.write(data, 0, data.length, offset);
  await handle.close();
}

/** The guest writes somewhere, each time somewhere else. */
async function guestWrites(): Promise<void> {
  const i = ++writes;
  const offset = ((i * 7919 * 4096 + 777) % (6 * MiB)) + (i % 3) * 15 * MiB;
  const data = seededBytes(`write ${i}`, 8700);
  await admin.guestWrite('web', DISK, offset, data);
  data.copy(want, offset);
}

/** Writes while `work` goes on: 10 to 15 times, because each area costs two runs of nbdkit to read. */
async function whileGuestWrites<T>(work: Promise<T>): Promise<T> {
  let done = false;
  const settled = work.finally(() => (done = true));
  settled.catch(() => undefined); // awaited below, after the last write
  for (let i = 0; i < 10 || (i < 15 && !done); i++) await guestWrites();
  return settled;
}

/** Runs a client command against an export of the disk as a snapshot froze it; `$uri` in it is the export. */
async function read(
  transport: Transport,
  snapshot: string,
  client: string,
  more: string[] = [],
  filters: string[] = [],
) {
  const file = textOf((await vim.backing('VirtualMachineSnapshot', snapshot, DISK))['fileName']);
  const path = file.replace('[ds1] ', '').replace('.vmdk', '-flat.vmdk');
  const url = new URL(`/folder/${path}?dcPath=DC0&dsName=ds1`, lab.url);
  const plugin = {
    https: ['curl', `url=${url.href}`, `cookie=${vim.cookie}`, 'sslverify=false'],
    vddk: [
      ...['vddk', `libdir=${libdir}`, 'server=127.0.0.1', `port=${url.port}`, `user=${lab.username}`],
      ...[`password=+${join(home, 'password')}`, `thumbprint=${lab.thumbprintSha1}`, `vm=moref=${vm}`],
      ...['transports=nbdssl', `file=${file}`, `snapshot=${snapshot}`],
    ],
  }[transport];
  return execa(nbdkit, ['-r', '-U', '-', ...filters, ...plugin, ...more, '--run', client], { timeout: 250_000 });
}

const copyOf = (transport: Transport): string => join(home, `${transport}.raw`);

async function copyAll(snapshot: string): Promise<void> {
  for (const transport of TRANSPORTS) await read(transport, snapshot, `nbdcopy "$uri" '${copyOf(transport)}'`);
}

/** Reads the areas again into both copies. */
async function copyAreas(snapshot: string, areas: { start: number; length: number }[]): Promise<void> {
  const piece = join(home, 'piece');
  for (const transport of TRANSPORTS) {
    for (const { start, length } of areas) {
      await rm(piece, { force: true });
      const range = [`offset=${start}`, `range=${length}`];
      await read(transport, snapshot, `nbdcopy "$uri" '${piece}'`, range, ['--filter=offset']);
      const data = await readFile(piece);
      expect(data.length).toBe(length);
      await writeAt(copyOf(transport), start, data);
    }
  }
}

async function expectCopies(content: Buffer): Promise<void> {
  for (const transport of TRANSPORTS) {
    expect((await readFile(copyOf(transport))).equals(content), `${transport} copy`).toBe(true);
  }
}

async function changeIdOf(snapshot: string): Promise<string> {
  return textOf((await vim.backing('VirtualMachineSnapshot', snapshot, DISK))['changeId']);
}

const folder = (headers: Record<string, string>, method = 'GET') =>
  vim.http(method, '/folder/web/web-flat.vmdk?dcPath=DC0&dsName=ds1', headers);

describe("warm copy out of the lab's vCenter", () => {
  let previous: string;
  let previousId: string;

  it('shows a disk neither to a stranger nor while a running VM writes to it', async () => {
    await vim.login();
    expect((await folder({})).status).toBe(401);
    expect((await folder({ cookie: vim.cookie }, 'HEAD')).status).toBe(500);
  });

  it('begins to track changes at the stun, not in the snapshot that is the stun', async () => {
    const spec = '<spec><changeTrackingEnabled>true</changeTrackingEnabled></spec>';
    await vim.task('VirtualMachine', vm, 'ReconfigVM_Task', spec);
    const stun = await vim.snapshot(vm, 'stun');
    expect(await changeIdOf(stun)).toBe('');
    await vim.removeSnapshot(stun);
  });

  it('gives the frozen content while the guest goes on writing', async () => {
    previous = await vim.snapshot(vm, 'r0');
    previousId = await changeIdOf(previous);
    expect(previousId).toMatch(/^[0-9a-f -]{47}\/\d+$/);
    const frozen = Buffer.from(want);
    await whileGuestWrites(copyAll(previous));
    await expectCopies(frozen);
    expect(want.equals(frozen)).toBe(false);
    const { areas } = await vim.changedAreas(vm, previous, DISK, '*', SIZE);
    expect(areas.reduce((sum, area) => sum + area.length, 0)).toBe(12 * MiB + 40 * 65536);
  });

  it('serves HEAD and ranges of the frozen base, to a session and to a password', async () => {
    const head = await folder({ cookie: vim.cookie }, 'HEAD');
    expect([head.status, head.headers['content-length'], head.headers['accept-ranges']]).toEqual([
      200,
      `${SIZE}`,
      'bytes',
    ]);
    const basic = `Basic ${Buffer.from(`${lab.username}:${lab.password}`).toString('base64')}`;
    const part = await folder({ authorization: basic, range: 'bytes=100-611' });
    expect([part.status, part.headers['content-range']]).toEqual([206, `bytes 100-611/${SIZE}`]);
    expect(part.body.equals((await readFile(copyOf('https'))).subarray(100, 612))).toBe(true);
  });

  it('reports in a delta by itself exactly what tracking reports', async () => {
    const chained = await vim.snapshot(vm, 'chained');
    const { areas } = await vim.changedAreas(vm, chained, DISK, previousId, SIZE);
    const { stdout } = await read('vddk', chained, 'nbdinfo --json --map "$uri"', ['single-link=true']);
    const extents = JSON.parse(stdout) as { offset: number; length: number; type: number }[];
    const grains = (ranges: { start: number; length: number }[]) =>
      // The plugin calls a last piece of less than 64 KiB data, whatever it is.
      ranges.flatMap(({ start, length }) =>
        Array.from({ length: Math.floor(length / 65536) }, (_, i) => start / 65536 + i),
      );
    const data = extents.filter((e) => e.type === 0).map((e) => ({ start: e.offset, length: e.length }));
    expect(grains(data)).toEqual(grains(areas));
    await vim.removeSnapshot(chained);
  });

  it('leaves a snapshot unconsolidated while a transfer reads it', async () => {
    const held = await vim.snapshot(vm, 'held');
    await guestWrites();
    const above = await vim.snapshot(vm, 'above');
    const file = textOf((await vim.backing('VirtualMachineSnapshot', above, DISK))['fileName']);
    const reader = await open((await admin.vm('web')).disks[0]?.chain.find((link) => link.name === file)?.file ?? '');
    await vim.removeSnapshot(above);
    expect(textOf(await vim.property('VirtualMachine', vm, 'runtime.consolidationNeeded'))).toBe('true');
    await expect(vim.task('VirtualMachine', vm, 'ConsolidateVMDisks_Task')).rejects.toThrow(
      'FileLocked: Unable to access',
    );
    await reader.close();
    await vim.task('VirtualMachine', vm, 'ConsolidateVMDisks_Task');
    expect(textOf(await vim.property('VirtualMachine', vm, 'runtime.consolidationNeeded'))).toBe('false');
    await vim.removeSnapshot(held);
  });

  it('brings the copies to the next snapshot by its changed areas, in pages of which some are empty', async () => {
    await whileGuestWrites(vim.removeSnapshot(previous)); // remove, wait, create, query: in this order
    const snapshot = await vim.snapshot(vm, 'r1');
    const frozen = Buffer.from(want);
    expect(textOf((await vim.backing('VirtualMachineSnapshot', snapshot, DISK))['fileName'])).toBe(
      '[ds1] web/web.vmdk',
    );
    const { areas, emptyPages } = await vim.changedAreas(vm, snapshot, DISK, previousId, SIZE);
    expect(emptyPages).toBeGreaterThan(0);
    expect(areas.reduce((sum, area) => sum + area.length, 0)).toBeLessThan(SIZE / 2);
    await whileGuestWrites(copyAreas(snapshot, areas));
    await expectCopies(frozen);
    [previous, previousId] = [snapshot, await changeIdOf(snapshot)];
  });

  it('brings the copies to the final disk once the guest is off', async () => {
    await vim.call('VirtualMachine', vm, 'ShutdownGuest');
    await waitFor(async () => (await admin.powerState('web')) === 'poweredOff', 'the guest to be off');
    await vim.removeSnapshot(previous);
    const base = join(lab.root, 'ds1/web/web-flat.vmdk');
    expect((await readFile(base)).equals(want)).toBe(true);
    const last = await vim.snapshot(vm, 'r2');
    await copyAreas(last, (await vim.changedAreas(vm, last, DISK, previousId, SIZE)).areas);
    await expectCopies(want);
    await vim.removeSnapshot(last);
    expect((await readdir(join(lab.root, 'ds1/web'))).filter((name) => /-0000|@|parent/.test(name))).toEqual([]);
    expect(await vim.property('VirtualMachine', vm, 'snapshot')).toBeUndefined();
  });

  it('ends a transfer when the session ends, and serves the next one', async () => {
    const snapshot = await vim.snapshot(vm, 'expiry');
    expect(await admin.expireSessions()).toBeGreaterThan(0);
    await expect(vim.call('ServiceInstance', 'ServiceInstance', 'CurrentTime')).rejects.toThrow('NotAuthenticated');
    expect((await folder({ cookie: vim.cookie })).status).toBe(401);
    await vim.login();
    await read('https', snapshot, `nbdcopy "$uri" '${copyOf('https')}'`);
    await expectCopies(want);
  });
});
