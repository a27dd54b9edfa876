import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { cachePath } from '../../lab/cache.js';
import { makeVddkLibdir, readVddkCalls, setVddkFaults } from '../../lab/vddk/libdir.js';
import { connectDeps } from '../../src/activities/connections.js';
import { openTransport } from '../../src/activities/transports.js';
import { loadConfig } from '../../src/config.js';
import { connectDisk, DiskOpener, openHttps } from '../../src/nbd/index.js';
import { HEADROOM_BYTES } from '../../src/shared/blocks.js';
import { failureTypeOf } from '../../src/shared/errors.js';
import { LoginPace } from '../../src/shared/login-pace.js';
import { trustFor } from '../../src/shared/pinned-tls.js';
import { waitFor } from '../lab/wait-for.js';
import { errorOf, plainVm, startTestLab, type TestLab } from '../vsphere/lab.js';

const PER_MINUTE = 6;

describe('LoginPace', () => {
  it('lets no more through than it may in any minute, first come, first served', async () => {
    const minuteMs = 200;
    const pace = new LoginPace(3, minuteMs);
    const order: number[] = [];
    const went = await Promise.all(
      Array.from({ length: 10 }, async (_, index) => {
        await pace.turn();
        order.push(index);
        return performance.now();
      }),
    );
    expect(order).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    for (const [index, at] of went.entries()) {
      const fourth = went[index + 3];
      if (fourth !== undefined) expect(fourth - at).toBeGreaterThan(minuteMs - 20);
    }
  });

  it('lets a cancelled one go at once', async () => {
    const pace = new LoginPace(1);
    await pace.turn();
    const waiting = pace.turn(AbortSignal.timeout(50));
    await expect(waiting).rejects.toThrow('timeout');
  });
});

describe('logins of VDDK', () => {
  let folder: string;
  let libdir: string;
  let lab: TestLab;
  let deps: ReturnType<typeof connectDeps>;
  const openers: DiskOpener[] = [];

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'surefire-logins-'));
    lab = await startTestLab({ vms: [plainVm('web01')] });
    const { url, root, username, password, thumbprintSha1 } = lab;
    const { hostname: server, port } = new URL(url);
    const access = { server, port: Number(port), username, password, thumbprintSha1 };
    libdir = await makeVddkLibdir({ dir: join(folder, 'vddk'), root, ...access });
  });

  afterAll(async () => {
    await lab?.end();
    rmSync(folder, { recursive: true, force: true });
  });

  beforeEach(async () => {
    await setVddkFaults(libdir, {});
    await lab.admin.clearRules();
    await lab.admin.clearCalls();
    writeFileSync(join(folder, 'secret'), lab.password, { mode: 0o600 });
    const file = join(folder, 'surefire.yaml');
    writeFileSync(
      file,
      `vcenters:
  vc: { url: "${lab.url}", username: ${lab.username}, passwordFile: secret, fingerprintSha256: "${lab.fingerprintSha256}", loginsPerMinute: ${PER_MINUTE} }
pools: {}
transfer: { nbdkit: ${cachePath('nbdkit-vddk', 'bin', 'nbdkit')}, vddkLibdir: ${libdir}, runDir: run }
state: { dir: ${mkdtempSync(join(folder, 'state-'))} }
`,
    );
    deps = connectDeps(loadConfig(file));
  });

  afterEach(async () => {
    await Promise.all(openers.splice(0).map((opener) => opener.stop()));
    await deps.close();
  });

  async function disk(signal = new AbortController().signal): Promise<DiskOpener> {
    const vsphere = deps.vsphere('vc');
    const vmMoRef = (await vsphere.listVms())[0]?.moRef ?? '';
    const { snapshotMoRef } = await vsphere.ensureSnapshot({ vmMoRef, name: 's', ownerId: 'o', description: 'd' });
    const [{ fileName, baseFileName } = { fileName: '', baseFileName: '' }] = await vsphere.snapshotDisks({
      snapshotMoRef,
    });
    const source = { vcenter: 'vc', vmMoRef, migrationId: 'm' };
    const input = { source, transport: 'vddk' as const, snapshotMoRef, fileName, baseFileName };
    const opener = new DiskOpener(() => openTransport(deps, input, signal), { subject: fileName, signal });
    openers.push(opener);
    return opener;
  }

  const vddkLogins = async () => (await readVddkCalls(libdir)).filter(({ call }) => call === 'ConnectEx').length;
  const soapLogins = async () => (await lab.admin.calls()).filter(({ method }) => method === 'Login').length;

  it('are held back, those of all disks together with our own, when connections are lost over and over', async () => {
    await setVddkFaults(libdir, { lost_read: 1 });
    const before = await vddkLogins();
    const enough = new AbortController();
    const disks = [await disk(enough.signal), await disk(enough.signal)];
    const ending = Promise.all(
      disks.map(async (opener) => {
        for (;;) {
          try {
            const client = await opener.connect();
            await client.read(0, 512, Buffer.alloc(HEADROOM_BYTES + 512)).catch(() => undefined);
          } catch (error) {
            return String(error);
          }
        }
      }),
    );
    const all = async () => (await vddkLogins()) - before + (await soapLogins());
    await waitFor(async () => (await all()) >= PER_MINUTE, 'as many logins as a minute has');
    // One too many would come at once.
    await sleep(1_000);
    enough.abort(new Error('enough'));
    expect(await ending).toEqual(['Error: enough', 'Error: enough']);
    expect(await all()).toBe(PER_MINUTE);
  });

  it('are not tried by another disk once a password was refused', async () => {
    const [first, second] = [await disk(), await disk()];
    await setVddkFaults(libdir, { password: 'changed meanwhile' });
    await lab.admin.addRule({ method: 'Login', fault: 'InvalidLogin' });
    const before = await vddkLogins();
    for (const opener of [first, second]) {
      const error = await errorOf(opener.connect());
      expect(failureTypeOf(error)).toBe('AuthenticationFailed');
      expect(error.message).toContain(`refuses the login of "${lab.username}"`);
    }
    expect((await vddkLogins()) - before).toBe(1);
  });

  it('that VDDK refuses although the password is right are called a matter of privileges, and shut nobody out', async () => {
    const opener = await disk();
    await setVddkFaults(libdir, { password: 'not the matter' });
    expect(failureTypeOf(await errorOf(opener.connect()))).toBe('VddkAuthentication');
    expect(await deps.vsphere('vc').listVms()).toHaveLength(1);
    await setVddkFaults(libdir, {});
    await opener.connect();
  });
});

describe('https', () => {
  const ODD = "ü #1 +&;=?@[x] a'b";
  /** The simulator takes a datastore's name to end at the first closing bracket. */
  const DATASTORE = `ds ${ODD}`.replace(']', '');
  const DATACENTER = 'Site ü #1 +&[x]/DC 50%25 a+b&c';
  let lab: TestLab;

  beforeAll(async () => {
    const datastores = [{ name: DATASTORE }];
    lab = await startTestLab({ datacenter: DATACENTER, datastores, vms: [plainVm(`vm ${ODD}`)] });
  });

  afterAll(() => lab?.end());

  it('finds disks by awkward names of VM, folder, datastore and datacenter, and goes on when the session ends', async () => {
    const vsphere = lab.connect();
    const [{ name, moRef: vmMoRef } = { name: '', moRef: '' }] = await vsphere.listVms();
    const { datacenterPath } = await vsphere.inspectVm({ vmMoRef });
    expect(datacenterPath).toBe(DATACENTER);
    const [{ deviceKey } = { deviceKey: 0 }] = (await lab.admin.vm(name)).disks;
    const written = Buffer.from(`here it is ${Math.random()}`.padEnd(512));
    await lab.admin.guestWrite(name, deviceKey, 4096, written);
    const { snapshotMoRef } = await vsphere.ensureSnapshot({ vmMoRef, name: 's', ownerId: 'o', description: 'd' });
    const [{ baseFileName } = { baseFileName: '' }] = await vsphere.snapshotDisks({ snapshotMoRef });
    expect(baseFileName).toBe(`[${DATASTORE}] vm ${ODD}/vm ${ODD}.vmdk`);
    const runDir = mkdtempSync(join(tmpdir(), 'surefire-https-'));
    const source = await openHttps({
      ...{ runDir, url: vsphere.diskUrl({ baseFileName, datacenterPath }), tls: await trustFor(lab) },
      cookie: (refused) => vsphere.sessionCookie({ refused }),
    });
    const client = await connectDisk(source, { subject: baseFileName });
    const buffer = Buffer.alloc(HEADROOM_BYTES + 512);
    await client.read(0, 512, buffer);
    expect(await lab.admin.expireSessions()).toBeGreaterThan(0);
    await client.read(4096, 512, buffer);
    expect(buffer.subarray(HEADROOM_BYTES).equals(written)).toBe(true);
    expect(source.counters?.().renewals).toBe(1);
    await client.close();
    await source.stop();
    rmSync(runDir, { recursive: true });
  });

  it.each([
    ['ds1', 'web 100% #1/web 100% #1', 'DC0'],
    ['ssd [a]', 'web%2f01/web%2f01', 'Site/DC 50%25'],
    ['ds+1 & co', 'deep/er/a?b=c', 'Straße'],
  ])('names each part so that decoding it once gives it back: [%s] %s in %s', (datastore, path, datacenterPath) => {
    const vsphere = lab.connect();
    const url = new URL(vsphere.diskUrl({ baseFileName: `[${datastore}] ${path}.vmdk`, datacenterPath }));
    expect(decodeURIComponent(url.pathname)).toBe(`/folder/${path}-flat.vmdk`);
    expect(Object.fromEntries(url.searchParams)).toEqual({ dcPath: datacenterPath, dsName: datastore });
  });
});
