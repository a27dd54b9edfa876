import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { cachePath } from '../../lab/cache.js';
import { makeVddkLibdir, readVddkCalls, setVddkFaults } from '../../lab/vddk/libdir.js';
import { connectDeps } from '../../src/activities/connections.js';
import { openTransport } from '../../src/activities/transports.js';
import { loadConfig } from '../../src/config.js';
import { DiskOpener } from '../../src/nbd/index.js';
import { HEADROOM_BYTES } from '../../src/shared/blocks.js';
import { failureTypeOf } from '../../src/shared/errors.js';
import { LoginPace } from '../../src/shared/login-pace.js';
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
    const disks = [await disk(AbortSignal.timeout(4_000)), await disk(AbortSignal.timeout(4_000))];
    const ends = await Promise.all(
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
    expect(ends).toEqual([expect.stringContaining('timeout'), expect.stringContaining('timeout')]);
    expect((await vddkLogins()) - before + (await soapLogins())).toBe(PER_MINUTE);
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
