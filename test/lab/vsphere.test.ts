import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { createClientAsync } from 'soap';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { VsphereAdmin } from '../../lab/vsphere/admin.js';
import { startVsphere, type RunningVsphere, type VsphereScenario } from '../../lab/vsphere/start.js';
import { RawVim, textOf } from './raw-vim.js';
import { waitFor } from './wait-for.js';

const scenario: VsphereScenario = {
  vms: [{ name: 'web', poweredOn: true, disks: [{ capacityBytes: 1536 }], nics: [{ mac: '00:50:56:00:00:01' }] }],
};

let stateDir: string;
let lab: RunningVsphere;
let admin: VsphereAdmin;
let vim: RawVim;

async function start(options: { listen?: string } = {}): Promise<void> {
  lab = await startVsphere({ stateDir, scenario, ...options });
  admin = new VsphereAdmin(lab.adminUrl);
  vim = new RawVim(lab);
}

beforeAll(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'surefire-vsphere-'));
  await start();
});

afterAll(async () => {
  await lab?.stop();
  await rm(stateDir, { recursive: true, force: true });
});

describe("the lab's vCenter", () => {
  it('serves a WSDL that the soap package can read', async () => {
    const { status, body } = await vim.http('GET', '/sdk/vimService.wsdl');
    expect(status).toBe(200);
    const file = join(stateDir, 'vimService.wsdl');
    await writeFile(file, body);
    const client = await createClientAsync(file, { disableCache: true });
    const service = client.describe() as { VimService: { VimPort: Record<string, { input: object }> } };
    const { VimPort } = service.VimService;
    expect(Object.keys(VimPort)).toEqual(expect.arrayContaining(['Login', 'ShutdownGuest', 'QueryChangedDiskAreas']));
    expect(Object.keys(VimPort['CreateSnapshotEx_Task']?.input ?? {}).slice(0, 5)).toEqual([
      '_this',
      'name',
      'description',
      'memory',
      'quiesceSpec',
    ]);
  });

  it('[S82] shows a new boot time after the guest restarted, and none once it is off', async () => {
    const first = (await admin.vm('web')).bootTime ?? '';
    await admin.reboot('web');
    const second = (await admin.vm('web')).bootTime ?? '';
    expect(Date.parse(second)).toBeGreaterThan(Date.parse(first));
    await admin.shutdown('web');
    expect(await admin.vm('web')).toMatchObject({ powerState: 'poweredOff', bootTime: null });
  });

  it('refuses a guest write while the VM is off', async () => {
    await expect(admin.guestWrite('web', 2000, 0, Buffer.from('x'))).rejects.toThrow('no disk 2000 in a running VM');
  });

  it('logs the calls it got', async () => {
    await admin.clearCalls();
    await vim.login();
    expect((await admin.calls()).map((call) => call.method)).toEqual(['Login']);
  });

  it('breaks the connection after the one call that a rule is about was done', async () => {
    const { moRef } = await admin.vm('web');
    await admin.addRule({ method: 'PowerOnVM_Task', about: ['vm-0'], lost: true });
    await admin.addRule({ method: 'PowerOnVM_Task', about: [moRef], lost: true });
    const before = (await admin.powerChanges()).length;
    await expect(vim.call('VirtualMachine', moRef, 'PowerOnVM_Task')).rejects.toThrow();
    await waitFor(async () => (await admin.powerState('web')) === 'poweredOn', 'the VM to run');
    expect((await admin.rules()).map(({ about }) => about)).toEqual([['vm-0']]);
    expect((await admin.powerChanges()).slice(before)).toMatchObject([{ vm: moRef, state: 'poweredOn' }]);
    await admin.clearRules();
    await admin.shutdown('web');
  });

  it('goes on with its inventory, certificate and address after it was killed', async () => {
    const { moRef } = await admin.vm('web');
    await vim.login();
    const snapshot = await vim.snapshot(moRef, 'kept');
    const before = { vms: await admin.vms(), pin: lab.fingerprintSha256, url: lab.url };
    await lab.kill();
    await start({ listen: new URL(lab.url).host });
    expect({ vms: await admin.vms(), pin: lab.fingerprintSha256, url: lab.url }).toEqual(before);
    await expect(vim.call('ServiceInstance', 'ServiceInstance', 'CurrentTime')).rejects.toThrow('NotAuthenticated');
    await vim.login();
    expect(textOf(await vim.property('VirtualMachineSnapshot', snapshot, 'config.name'))).toBe('web');
  });

  it('stops at once although a client waits for updates, and leaves no temporary files', async () => {
    const { moRef } = await admin.vm('web');
    const spec =
      '<spec><propSet><type>VirtualMachine</type><pathSet>runtime.powerState</pathSet></propSet>' +
      `<objectSet><obj type="VirtualMachine">${moRef}</obj></objectSet></spec><partialUpdates>false</partialUpdates>`;
    await vim.call('PropertyCollector', 'propertyCollector', 'CreateFilter', spec);
    const first = await vim.call('PropertyCollector', 'propertyCollector', 'WaitForUpdatesEx');
    const version = `<version>${textOf(first['returnval']?.['version'])}</version>`;
    const waiting = vim.call('PropertyCollector', 'propertyCollector', 'WaitForUpdatesEx', version);
    const broken = expect(waiting).rejects.toThrow();
    await waitFor(
      async () => (await admin.calls()).filter((call) => call.method === 'WaitForUpdatesEx').length === 2,
      'the second call to arrive',
    );
    await lab.stop();
    await broken;
    expect(await readdir(stateDir)).not.toContain('temporary');
  });

  it('ends with the process that started it', async () => {
    const program = `import { startVsphere } from './lab/vsphere/start.ts';
      const lab = await startVsphere({ stateDir: ${JSON.stringify(stateDir)} });
      process.stdout.write(String(lab.pid));
      process.kill(process.pid, 'SIGKILL');`;
    await lab.stop();
    const parent = await execa('node_modules/.bin/tsx', ['--input-type=module', '-e', program], { reject: false });
    const pid = Number(parent.stdout);
    expect(pid).toBeGreaterThan(1);
    await waitFor(() => !isAlive(pid), 'the end of the orphan');
  });
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

const go = await execa('go', ['version'], { reject: false });

describe.skipIf(go.exitCode !== 0)('Go tests of the lab', () => {
  it('pass', async () => {
    const tests = await execa('go', ['test', './...'], { cwd: 'lab/vsphere', reject: false, all: true });
    expect(tests.exitCode, tests.all).toBe(0);
  });
});
