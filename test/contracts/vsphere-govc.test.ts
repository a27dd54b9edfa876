import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cachePath } from '../../lab/cache.js';
import { startVsphere, type RunningVsphere } from '../../lab/vsphere/start.js';

let stateDir: string;
let lab: RunningVsphere;

beforeAll(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'surefire-govc-'));
  const disks = [{ capacityBytes: 1 << 20 }, { capacityBytes: 1 << 20, controller: 'nvme' as const }];
  const nics = [{ mac: '00:50:56:00:00:01' }];
  lab = await startVsphere({
    stateDir,
    scenario: { apiVersion: '8.0.2.0', vms: [{ name: 'web', firmware: 'efi', cdroms: [{}], vtpm: true, disks, nics }] },
  });
});

afterAll(async () => {
  await lab?.stop();
  await rm(stateDir, { recursive: true, force: true });
});

async function govc(args: string[], password = lab.password) {
  const env = {
    GOVC_URL: lab.url,
    GOVC_USERNAME: lab.username,
    GOVC_PASSWORD: password,
    GOVC_INSECURE: '1',
    GOVC_PERSIST_SESSION: 'false',
  };
  return execa(cachePath('bin', 'govc'), args, { env, reject: false, timeout: 250_000 });
}

async function said(...args: string[]): Promise<string> {
  const result = await govc(args);
  expect(result.exitCode, `govc ${args.join(' ')}: ${result.stderr}`).toBe(0);
  return result.stdout;
}

describe('govc against the lab', () => {
  it('reads what the server is', async () => {
    expect(await said('about')).toMatch(/API type: +VirtualCenter\nAPI version: +8\.0\.2\.0/);
  });

  it('is refused with a wrong password', async () => {
    const { exitCode, stderr } = await govc(['about'], 'wrong');
    expect(exitCode).not.toBe(0);
    expect(stderr).toContain('Login failure');
  });

  it('finds the VM and its devices', async () => {
    expect(await said('ls', 'vm')).toBe('/DC0/vm/web');
    expect(await said('vm.info', 'web')).toMatch(/Power state: +poweredOff/);
    const devices = await said('device.info', '-vm', 'web');
    expect(devices).toMatch(/Label: +Hard disk 1\n[^]*Key: +2000\n[^]*File: +\[datastore1\] web\/web\.vmdk/);
    expect(devices).toMatch(/Type: +VirtualTPM/);
    expect(devices).toContain('00:50:56:00:00:01');
    expect(await said('collect', '-s', 'vm/web', 'config.firmware')).toBe('efi');
  });

  it('makes, shows, reverts to and removes snapshots', async () => {
    await said('snapshot.create', '-vm', 'web', '-m=false', '-d', 'a description', 'first');
    await said('vm.change', '-vm', 'web', '-annotation', 'changed');
    await said('snapshot.create', '-vm', 'web', '-m=false', 'second');
    expect((await said('snapshot.tree', '-vm', 'web')).replaceAll(/\s+/g, ' ')).toMatch(/first second \.?/);
    expect(await said('collect', '-s', 'vm/web', 'config.annotation')).toBe('changed');
    await said('snapshot.revert', '-vm', 'web', 'first');
    expect(await said('collect', '-s', 'vm/web', 'config.annotation')).toBe('');
    await said('snapshot.remove', '-vm', 'web', '*');
    expect(await said('snapshot.tree', '-vm', 'web')).toBe('');
    expect(await said('device.info', '-vm', 'web', 'disk-1000-0')).toMatch(/File: +\[datastore1\] web\/web\.vmdk/);
  });

  it('switches the power, and hears no from a guest without Tools', async () => {
    await said('vm.power', '-on', 'web');
    expect(await said('collect', '-s', 'vm/web', 'runtime.powerState')).toBe('poweredOn');
    expect(await said('collect', '-s', 'vm/web', 'runtime.bootTime')).toMatch(/^20\d\d-/);
    const { exitCode, stderr } = await govc(['vm.power', '-s', 'web']);
    expect([exitCode, stderr]).toEqual([1, expect.stringContaining('VMware Tools is not running')]);
    await said('vm.power', '-off', 'web');
    expect((await govc(['vm.power', '-off', 'web'])).stderr).toContain('current state (poweredOff)');
  });

  it('downloads the extent of a disk at rest through /folder', async () => {
    const file = join(stateDir, 'downloaded');
    await said('datastore.download', '-ds', 'datastore1', 'web/web-flat.vmdk', file);
    const { stdout } = await execa('cmp', [file, join(lab.root, 'datastore1/web/web-flat.vmdk')], { reject: false });
    expect(stdout).toBe('');
  });
});
