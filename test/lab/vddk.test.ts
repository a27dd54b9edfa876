import { createHash } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, open, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { cachePath } from '../../lab/cache.js';
import { seededBytes } from '../../lab/disks/random.js';
import { makeVddkLibdir, readVddkCalls, setVddkFaults } from '../../lab/vddk/libdir.js';

const KiB = 1024;
const THUMBPRINT = 'AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD';
const PASSWORD = 'correct-horse';
const DISK = '[ds] vm/vm.vmdk';
const CHILD = '[ds] vm/vm-000001.vmdk';
const ODD = '[ds] vm/odd.vmdk';

let home: string;
let libdir: string;
let nbdkit: string;
/** Sockets are ours, in our folder: `-U -` with the vddk plugin leaves one in /tmp each time. */
let runs = 0;
const file = (name: string): string => join(home, 'root/ds/vm', name);

interface Attempt {
  disk?: string;
  user?: string;
  password?: string;
  thumbprint?: string;
  server?: string;
  port?: number;
  vm?: string;
  /** Without nbdkit's `-r`. */
  isWritable?: boolean;
  /** More parameters of the plugin. */
  more?: string[];
}

/** Runs a client command against `nbdkit vddk`; `$uri` in it is the export. */
async function withNbdkit(client: string, attempt: Attempt = {}) {
  const passwordFile = join(home, 'password');
  await writeFile(passwordFile, attempt.password ?? PASSWORD, { mode: 0o600 });
  const { exitCode, stdout, stderr } = await execa(
    nbdkit,
    [
      ...(attempt.isWritable ? [] : ['-r']),
      ...['-P', join(home, 'pid'), '-U', join(home, `socket-${++runs}`)],
      ...['vddk', `libdir=${libdir}`, `server=${attempt.server ?? '127.0.0.1'}`],
      ...[`port=${attempt.port ?? 8989}`, `user=${attempt.user ?? 'root'}`, `password=+${passwordFile}`],
      ...[`thumbprint=${attempt.thumbprint ?? THUMBPRINT}`, `vm=moref=${attempt.vm ?? 'vm-1'}`],
      ...[`file=${attempt.disk ?? DISK}`, ...(attempt.more ?? []), '--run', client],
    ],
    { reject: false, timeout: 250_000 },
  );
  return { exitCode, stdout, stderr };
}

async function copy(attempt: Attempt = {}): Promise<{ exitCode: number | undefined; stderr: string; sha: string }> {
  const out = join(home, 'copy');
  await rm(out, { force: true });
  const { exitCode, stderr } = await withNbdkit(`nbdcopy "$uri" ${out}`, attempt);
  return { exitCode, stderr, sha: await sha256(out).catch(() => 'nothing') };
}

async function sha256(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
}

async function write(path: string, offset: number, data: Uint8Array): Promise<void> {
  const handle = await open(path, 'r+');
  await handle.write(data, 0, data.length, offset);
  await handle.close();
}

async function sparseFile(path: string, size: number): Promise<void> {
  await writeFile(path, '');
  await truncate(path, size);
}

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'surefire-vddk-'));
  nbdkit = (await readFile(cachePath('nbdkit.path'), 'utf8')).trim();
  await mkdir(join(home, 'root/ds/vm'), { recursive: true });
  await mkdir(join(home, 'root/@vms'));
  await sparseFile(file('vm-flat.vmdk'), 16 * KiB * KiB);
  await write(file('vm-flat.vmdk'), 0, seededBytes('first', 1024 * KiB));
  await write(file('vm-flat.vmdk'), 5001 * 512, seededBytes('alone', 4 * KiB));
  await copyFile(file('vm-flat.vmdk'), file('vm.vmdk@snapshot-7'));
  await write(file('vm.vmdk@snapshot-7'), 9000 * KiB, seededBytes('frozen', 64 * KiB));
  await sparseFile(file('vm-000001-flat.vmdk'), 16 * KiB * KiB);
  await write(file('vm-000001-flat.vmdk'), 4096 * KiB, seededBytes('delta', 64 * KiB));
  await writeFile(`${file('vm-000001-flat.vmdk')}.parent`, `${DISK}\n`);
  await sparseFile(file('odd-flat.vmdk'), 10 * 64 * KiB + 1536);
  await write(file('odd-flat.vmdk'), 10 * 64 * KiB, seededBytes('tail', 1536));
  await writeFile(join(home, 'root/@vms/vm-1'), `${DISK}\n${CHILD}\n${ODD}\n`);
  libdir = await makeVddkLibdir({
    dir: join(home, 'vddk'),
    root: join(home, 'root'),
    server: '127.0.0.1',
    port: 8989,
    username: 'root',
    password: PASSWORD,
    thumbprintSha1: THUMBPRINT,
  });
});

afterAll(() => rm(home, { recursive: true, force: true }));
beforeEach(() => setVddkFaults(libdir, {}));

describe('mock VDDK behind the real nbdkit plugin', () => {
  it('serves a disk byte for byte', async () => {
    expect(await copy()).toMatchObject({ exitCode: 0, sha: await sha256(file('vm-flat.vmdk')) });
  });

  it('serves what a snapshot froze, not what the disk became', async () => {
    const frozen = await sha256(file('vm.vmdk@snapshot-7'));
    expect(await copy({ more: ['snapshot=snapshot-7'] })).toMatchObject({ exitCode: 0, sha: frozen });
  });

  it('shows the parent through the holes of a delta, and only the delta with single-link', async () => {
    const whole = await readFile(file('vm-flat.vmdk'));
    seededBytes('delta', 64 * KiB).copy(whole, 4096 * KiB);
    expect((await copy({ disk: CHILD })).sha).toBe(createHash('sha256').update(whole).digest('hex'));
    const alone = await copy({ disk: CHILD, more: ['single-link=true'] });
    expect(alone.sha).toBe(await sha256(file('vm-000001-flat.vmdk')));
  });

  it('serves a disk whose size is no multiple of 64 KiB', async () => {
    expect(await copy({ disk: ODD })).toMatchObject({ exitCode: 0, sha: await sha256(file('odd-flat.vmdk')) });
    expect((await stat(join(home, 'copy'))).size).toBe(10 * 64 * KiB + 1536);
  });

  it('reports allocation in chunks of 64 KiB', async () => {
    const { stdout } = await withNbdkit('nbdinfo --map --json "$uri"');
    const map = (JSON.parse(stdout) as { offset: number; length: number; type: number }[]).map((e) => [
      e.offset / KiB,
      e.length / KiB,
      e.type,
    ]);
    // 4 KiB at sector 5001 lies in the chunk that begins at 2496 KiB.
    expect(map).toEqual([
      [0, 1024, 0],
      [1024, 1472, 3],
      [2496, 64, 0],
      [2560, 16384 - 2560, 3],
    ]);
  });

  it.each<[string, Attempt, RegExp]>([
    ['a wrong password', { password: 'wrong' }, /Insufficient permissions/],
    ['a wrong user', { user: 'somebody' }, /Insufficient permissions/],
    ['a wrong thumbprint', { thumbprint: '00:11' }, /VixDiskLib_Open.*Unknown error/],
    ['an unknown server', { server: '127.0.0.2' }, /could not be contacted/],
    ['another port', { port: 443 }, /could not be contacted/],
    ['an unknown VM', { vm: 'vm-2' }, /there is no VM vm-2/],
    ["a disk that is not this VM's", { disk: '[ds] vm/other.vmdk' }, /has no disk/],
    ['an unknown snapshot', { more: ['snapshot=snapshot-8'] }, /snapshot was not found/],
    ['transports that cannot work here', { more: ['transports=san:hotadd'] }, /no usable transport/],
  ])('refuses %s', async (_what, attempt, reason) => {
    const { exitCode, stderr } = await withNbdkit('nbdinfo --size "$uri"', attempt);
    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(reason);
  });

  it('[S29] refuses to open a source for writing', async () => {
    const before = await sha256(file('vm-flat.vmdk'));
    const { exitCode, stderr } = await withNbdkit('nbdinfo --size "$uri"', { isWritable: true });
    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(/You do not have access rights to this file/);
    expect(await sha256(file('vm-flat.vmdk'))).toBe(before);
  });

  it('accepts a thumbprint without colons in lower case', async () => {
    const { stdout } = await withNbdkit('nbdinfo --size "$uri"', {
      thumbprint: THUMBPRINT.replaceAll(':', '').toLowerCase(),
    });
    expect(stdout).toBe(String(16 * KiB * KiB));
  });

  it('fails one read when told to, and the caller sees an I/O error', async () => {
    await setVddkFaults(libdir, { fail_read: 3 });
    const { exitCode, stderr } = await copy();
    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(/asynchronous read failed: The connection was lost/);
  });

  it('has bad sectors where told to', async () => {
    await setVddkFaults(libdir, { fail_lba: '100-101=16000' });
    expect((await copy()).stderr).toMatch(/One of the parameters was invalid/);
  });

  it('loses the host connection until the disk is opened again', async () => {
    await setVddkFaults(libdir, { lost_read: 2 });
    // One request at a time: nbdkit before 1.33.10 ends by a failed assertion when a client leaves with replies due.
    const reconnecting = 'nbdcopy -C 1 -R 1 "$uri" null: ; nbdcopy -C 1 -R 1 "$uri" null:';
    const { exitCode, stderr } = await withNbdkit(reconnecting);
    expect(stderr).toMatch(/data connection to the host was lost/);
    expect(exitCode).toBe(0);
  });

  it('crashes once, over restarts', async () => {
    const once = join(home, 'once');
    await writeFile(once, '');
    await setVddkFaults(libdir, { crash_read: '1+', once });
    expect((await copy()).exitCode).not.toBe(0);
    expect((await copy()).exitCode).toBe(0);
  });

  it('reads slowly when told to', async () => {
    await setVddkFaults(libdir, { read_delay_us: 100_000, async_threads: 1 });
    const begin = Date.now();
    // 1 MiB + 64 KiB of data in requests of at most 256 KiB
    await copy();
    expect(Date.now() - begin).toBeGreaterThan(500);
  });

  it('limits the disks open at a time', async () => {
    await setVddkFaults(libdir, { max_sessions: 1, read_delay_us: 200_000, async_threads: 1 });
    const second =
      'nbdcopy "$uri" null: & until grep -q Open calls; do sleep 0.05; done; nbdinfo --size "$uri"; r=$?; wait; exit $r';
    await rm(join(libdir, 'calls.log'), { force: true });
    const { exitCode, stderr } = await withNbdkit(second.replace('calls', join(libdir, 'calls.log')));
    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(/no free session/);
  });

  it('calls everything data when block queries are not supported', async () => {
    await setVddkFaults(libdir, { no_query: 1 });
    const { stdout } = await withNbdkit('nbdinfo --map --json "$uri"');
    expect(JSON.parse(stdout)).toHaveLength(1);
  });

  it('logs what was asked of it, without a secret', async () => {
    await rm(join(libdir, 'calls.log'), { force: true });
    await copy({ more: ['snapshot=snapshot-7', 'transports=nbdssl', 'compression=fastlz'] });
    const calls = await readVddkCalls(libdir);
    expect(calls.map((c) => c.call)).toEqual(expect.arrayContaining(['InitEx', 'ConnectEx', 'Open', 'Close', 'Exit']));
    const opened = calls.find((c) => c.call === 'Open');
    // flags: read-only 4, fastlz 32
    expect(opened).toMatchObject({ path: DISK, vm: 'vm-1', snapshot: 'snapshot-7', mode: 'nbdssl', flags: '36' });
    expect(JSON.stringify(calls)).not.toContain(PASSWORD);
  });

  it('logs what a disk was asked that nbdkit, told to end, leaves open', async () => {
    await setVddkFaults(libdir, { read_delay_us: 100_000, async_threads: 1 });
    const log = join(libdir, 'calls.log');
    await rm(log, { force: true });
    await withNbdkit(
      `nbdcopy "$uri" null: & until grep -q Open ${log}; do sleep 0.05; done; kill $(cat ${join(home, 'pid')}); wait`,
    );
    const calls = await readVddkCalls(libdir);
    expect(calls.slice(-2)).toMatchObject([{ call: 'Close', path: DISK, by: 'exit' }, { call: 'Exit' }]);
  });

  it('takes a changed password without a restart of anything else', async () => {
    await setVddkFaults(libdir, { password: 'rotated' });
    expect((await copy()).exitCode).not.toBe(0);
    expect((await copy({ password: 'rotated' })).exitCode).toBe(0);
  });
});
