import { mkdir, readFile, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import tls from 'node:tls';
import { beforeEach, describe, expect, it } from 'vitest';
import { cachePath } from '../../lab/cache.js';
import { makeVddkLibdir, readVddkCalls, setVddkFaults } from '../../lab/vddk/libdir.js';
import {
  DiskOpener,
  openVddk,
  type DiskSource,
  type NbdClientSettings,
  type VddkOptions,
} from '../../src/nbd/index.js';
import { connectDisk } from '../../src/nbd/index.js';
import { HEADROOM_BYTES } from '../../src/shared/blocks.js';
import { failureTypeOf } from '../../src/shared/errors.js';
import { copyPass, planWholeDisk } from '../../src/transfer/index.js';
import { MemoryStore, MemoryTarget } from '../transfer/harness.js';
import { onCleanup, pattern, tempDir } from './nbdkit.js';
import { testCertificate } from './tls-server.js';

const MiB = 1024 * 1024;
const SUBJECT = 'disk [ds] vm/vm.vmdk';
/** What hangs is given up after this; nothing that only waits for a processor takes so long. */
const HANGS_MS = 3_000;
let options: VddkOptions;
let content: Buffer;

beforeEach(async () => {
  const home = await tempDir();
  const certificate = await testCertificate();
  const vcenter = tls.createServer({ key: certificate.key, cert: certificate.cert }, (socket) =>
    socket.on('error', () => undefined),
  );
  await new Promise<void>((resolve) => vcenter.listen(0, '127.0.0.1', resolve));
  onCleanup(() => new Promise((resolve) => vcenter.close(resolve)));
  content = pattern(4 * MiB);
  await mkdir(join(home, 'root/ds/vm'), { recursive: true });
  await mkdir(join(home, 'root/@vms'));
  await writeFile(join(home, 'root/@vms/vm-1'), '[ds] vm/vm.vmdk\n');
  await writeFile(join(home, 'root/ds/vm/vm.vmdk@snap-1'), content);
  const { port } = vcenter.address() as AddressInfo;
  const access = { server: '127.0.0.1', port, username: 'root', password: 'correct-horse' };
  const { thumbprintSha1 } = certificate;
  const libdir = await makeVddkLibdir({ dir: join(home, 'vddk'), root: join(home, 'root'), ...access, thumbprintSha1 });
  options = {
    ...{ runDir: join(home, 'run'), nbdkitCommand: cachePath('nbdkit-vddk', 'bin', 'nbdkit'), libdir, thumbprintSha1 },
    ...{ ...access, vmMoRef: 'vm-1', snapshotMoRef: 'snap-1', fileName: '[ds] vm/vm.vmdk' },
    ...{ transports: ['nbdssl'], compression: 'fastlz' },
  };
});

async function open(changes: Partial<VddkOptions> = {}): Promise<DiskSource> {
  const source = await openVddk({ ...options, ...changes });
  onCleanup(() => source.stop());
  return source;
}

async function failureOf(promise: Promise<unknown>): Promise<{ type?: string; message: string }> {
  return promise.then(
    () => expect.fail('it succeeded'),
    (error: Error) => ({ type: failureTypeOf(error), message: error.message }),
  );
}

describe('openVddk', () => {
  it('reads the disk of a snapshot with one login', async () => {
    const client = await connectDisk(await open(), { subject: SUBJECT });
    expect(client.hasMap).toBe(true);
    const buffer = Buffer.alloc(HEADROOM_BYTES + content.length);
    await client.read(0, content.length, buffer);
    await client.close();
    expect(buffer.subarray(HEADROOM_BYTES).equals(content)).toBe(true);
    const logins = (await readVddkCalls(options.libdir)).filter((call) => call.call === 'ConnectEx');
    expect(logins.length).toBe(1);
  });

  it('[S1] records command line and versions, without the password', async () => {
    const source = await open();
    expect(source.commandLine).toContain('snapshot=snap-1');
    expect(source.commandLine).not.toContain('correct-horse');
    expect(source.pluginVersion).toMatch(/^nbdkit \d.*, vddk plugin 1\.\d+.*, VDDK 8/);
  });

  it('[S26] asks ESXi to compress, or not to, and the record says which, and over which transports', async () => {
    for (const compression of ['fastlz', 'none']) {
      const source = await open({ compression, transports: ['nbdssl'] });
      await (await connectDisk(source, { subject: SUBJECT })).close();
      expect(source.commandLine).toContain(` transports=nbdssl compression=${compression} `);
    }
    const logins = (await readVddkCalls(options.libdir)).filter((call) => call.call === 'ConnectEx');
    expect(logins.map(({ transports }) => transports)).toEqual(['nbdssl', 'nbdssl']);
  });

  it('keeps nothing of what nbdkit tells for debugging but the way that VDDK took', async () => {
    const source = await open();
    await (await connectDisk(source, { subject: SUBJECT })).close();
    await expect.poll(() => source.vddkWays?.()).toEqual(['nbdssl']);
    expect(source.lastStderr()).toBe('');
  });

  it('calls a wrong password by its name, after one login, and never repeats it', async () => {
    const source = await open({ password: 'wrong' });
    const failure = await failureOf(connectDisk(source, { subject: SUBJECT }));
    expect(failure.type).toBe('VddkAuthentication');
    expect(failure.message).toContain('nbdkit could not open disk [ds] vm/vm.vmdk.');
    expect(failure.message).toContain('Insufficient permissions');
    const logins = (await readVddkCalls(options.libdir)).filter((call) => call.call === 'ConnectEx');
    expect(logins.length).toBe(1);
  });

  it("finds out that VDDK's unknown error is a wrong thumbprint", async () => {
    const thumbprintSha1 = 'AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD';
    const failure = await failureOf(connectDisk(await open({ thumbprintSha1 }), { subject: SUBJECT }));
    expect(failure.type).toBe('ThumbprintMismatch');
    expect(failure.message).toContain(`is ${options.thumbprintSha1}, not ${thumbprintSha1}`);
  });

  it.each([
    ['DiskNotFound', 'a missing disk', { fileName: '[ds] vm/none.vmdk' }],
    ['DiskNotFound', 'a missing snapshot', { snapshotMoRef: 'snap-9' }],
    ['HostUnreachable', 'a vCenter that nobody answers for', { server: '127.0.0.2' }],
  ])('says %s for %s', async (type, _what, changes) => {
    const failure = await failureOf(connectDisk(await open(changes), { subject: SUBJECT }));
    expect(failure.type).toBe(type);
  });

  it('says VddkUnavailable where the library or the plugin is missing', async () => {
    expect((await failureOf(open({ libdir: '/nonexistent' }))).type).toBe('VddkUnavailable');
    expect((await failureOf(open({ nbdkitCommand: 'nbdkit' }))).type).toBe('VddkUnavailable');
  });
});

describe('DiskOpener', () => {
  /** Copies the disk as a pass does, and says how it ended. */
  async function copy(changes: NbdClientSettings['timeouts'] = {}) {
    const opener = new DiskOpener(() => open(), { subject: SUBJECT, timeouts: { drainMs: 100, ...changes } });
    onCleanup(() => opener.stop());
    const target = new MemoryTarget(Buffer.alloc(content.length));
    const error = await copyPass({
      ...{ plan: await planWholeDisk('base', content.length), pass: 'base', snapshot: 'snap-1', sink: target },
      ...{
        checkpoints: new MemoryStore(),
        signal: new AbortController().signal,
        reconnect: { attempts: 2, firstDelayMs: 1 },
      },
      openReader: () => opener.connect(),
    }).then(
      () => undefined,
      (reason: Error) => reason,
    );
    await opener.stop();
    return { error, target };
  }

  /** A login each. */
  const logins = async () => (await readVddkCalls(options.libdir)).filter(({ call }) => call === 'ConnectEx');
  const isRunning = (pid: number) =>
    readFile(`/proc/${pid}/stat`, 'utf8').then(
      (stat) => !/\) Z/.test(stat),
      () => false,
    );

  it('goes on with a new nbdkit in the middle of a pass when a read hangs, and leaves no process', async () => {
    // The second read of the first nbdkit alone.
    const once = join(await tempDir(), 'once');
    await writeFile(once, '');
    await setVddkFaults(options.libdir, { hang_read: 2, once });
    const { error, target } = await copy({ requestMs: HANGS_MS });
    expect(error).toBeUndefined();
    expect(target.content.equals(content)).toBe(true);
    expect((await readVddkCalls(options.libdir)).filter(({ call }) => call === 'hang')).toHaveLength(1);
    const pids = (await logins()).map(({ pid }) => pid);
    expect(new Set(pids).size).toBe(2);
    for (const pid of pids) expect(await isRunning(pid)).toBe(false);
  });

  it('tells every way that VDDK took to the disk, also when a later connection falls back to one without encryption', async () => {
    const ways = [['nbdssl'], ['hotadd', 'nbd']];
    const opener = new DiskOpener(() => open({ transports: ways.shift() ?? [] }), { subject: SUBJECT });
    onCleanup(() => opener.stop());
    await opener.connect();
    await expect.poll(() => opener.vddkWays).toEqual(['nbdssl']);
    await opener.stop();
    await opener.connect();
    await expect.poll(() => opener.vddkWays).toEqual(['nbdssl', 'nbd']);
  });

  it('goes on with a new nbdkit when opening the disk hangs', async () => {
    await setVddkFaults(options.libdir, { open_delay_us: 60_000_000 });
    const opener = new DiskOpener(() => open(), { subject: SUBJECT, timeouts: { connectMs: HANGS_MS } });
    onCleanup(() => opener.stop());
    expect((await failureOf(opener.connect())).type).toBe('NbdConnectionLost');
    await setVddkFaults(options.libdir, {});
    await (await opener.connect()).read(0, 512, Buffer.alloc(1024));
    expect(await logins()).toHaveLength(2);
  });

  it('names the sectors that VDDK cannot read, with its own words, and reads the rest', async () => {
    await setVddkFaults(options.libdir, { fail_lba: '5000-5007' });
    const { error, target } = await copy();
    expect(failureTypeOf(error)).toBe('SectorsUnreadable');
    expect(error?.message).toContain(
      `${SUBJECT}: 8 sectors cannot be read: LBA 5000-5007 (bytes 2560000-2564095).\nThey fail on new connections too`,
    );
    expect(error?.message).toMatch(/nbdkit said: "error: command \d+: asynchronous read failed: A file access error/);
    expect(target.content.subarray(0, 2 * MiB).equals(content.subarray(0, 2 * MiB))).toBe(true);
  });

  it('reads on after the host was lost with many reads under way, whatever became of that nbdkit', async () => {
    // A client that leaves with replies due ends an nbdkit before 1.33.10 by a failed assertion, about one time in eight.
    const opener = new DiskOpener(() => open(), { subject: SUBJECT });
    onCleanup(() => opener.stop());
    for (let round = 1; round <= 4; round++) {
      await setVddkFaults(options.libdir, { lost_read: 5 });
      const client = await opener.connect();
      const lost = Array.from({ length: 64 }, (_, index) =>
        client.read(index * 65_536, 65_536, Buffer.alloc(HEADROOM_BYTES + 65_536)),
      );
      const ends = await Promise.allSettled(lost);
      expect(ends.filter(({ status }) => status === 'rejected').length).toBeGreaterThan(0);
      await client.close();
      await setVddkFaults(options.libdir, {});
      const buffer = Buffer.alloc(HEADROOM_BYTES + content.length);
      await (await opener.connect()).read(0, content.length, buffer);
      expect(buffer.subarray(HEADROOM_BYTES).equals(content), `round ${round}`).toBe(true);
    }
  });

  it('uses a new nbdkit after a lost connection, even if a VDDK call hangs', async () => {
    const opener = new DiskOpener(() => open(), { subject: SUBJECT, timeouts: { requestMs: HANGS_MS, drainMs: 100 } });
    onCleanup(() => opener.stop());
    const first = await opener.connect();
    const firstSource = opener.source;
    await setVddkFaults(options.libdir, { hang_read: 1 });
    await expect(first.read(0, 512, Buffer.alloc(1024))).rejects.toThrow(`No progress for ${HANGS_MS} ms`);
    await first.close();
    await setVddkFaults(options.libdir, {});
    const second = await opener.connect();
    await second.read(0, 512, Buffer.alloc(1024));
    expect(opener.source).not.toBe(firstSource);
    expect(firstSource?.exited()).toEqual({ signal: 'SIGKILL' });
  });
});
