import { createHash } from 'node:crypto';
import { chmod, mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cachePath } from '../../lab/cache.js';
import type { LabDescription } from '../../lab/lab.js';
import { setVddkFaults } from '../../lab/vddk/libdir.js';
import { VsphereAdmin } from '../../lab/vsphere/admin.js';

const PROJECT = new URL('../..', import.meta.url).pathname;

interface Launched {
  lab: LabDescription;
  process: ReturnType<typeof launch>;
}

function launch(command: string, args: string[]) {
  // Node options of the test runner are not meant for the lab.
  return execa(command, args, { cwd: PROJECT, reject: false, env: { NODE_OPTIONS: '' }, stdin: 'ignore' });
}

/** Starts a launcher and waits for its line. */
async function startLauncher(command: string, args: string[]): Promise<Launched> {
  const process = launch(command, args);
  const line = await new Promise<string>((resolve, reject) => {
    createInterface({ input: process.stdout }).once('line', resolve);
    void process.then(({ stderr }) => reject(new Error(`The launcher ended early: ${stderr}`)));
  });
  return { lab: JSON.parse(line) as LabDescription, process };
}

/** Processes with the state folder on their command line, or working on files in it. */
async function processesOn(stateDir: string): Promise<string[]> {
  const found: string[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)) {
    const commandLine = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).replaceAll('\0', ' ');
    const opened = await readdir(`/proc/${pid}/fd`).catch(() => []);
    const files = await Promise.all(opened.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')));
    if (commandLine.includes(stateDir) || files.some((file) => file.startsWith(stateDir)))
      found.push(`${pid} ${commandLine}`);
  }
  return found;
}

async function expectNoneLeft(stateDir: string): Promise<void> {
  await expect.poll(() => processesOn(stateDir), { interval: 200 }).toEqual([]);
}

let home: string;
let runs = 0;
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'surefire-lab-'));
});
afterAll(() => rm(home, { recursive: true, force: true }));

describe('npm run lab', () => {
  it('prints one line of JSON when everything answers, goes on where it was, and leaves no process behind', async () => {
    const stateDir = join(home, 'lab');
    const args = ['dist/lab/main.js', '--json', '--state-dir', stateDir];
    const first = await startLauncher('node', args);
    const { lab } = first;
    expect(lab).toMatchObject({
      schema: 1,
      stateDir,
      vsphere: {
        url: expect.stringMatching(/^https:\/\/127\.0\.0\.1:\d+\/sdk$/) as string,
        fingerprintSha256: expect.stringMatching(/^([0-9A-F]{2}:){31}[0-9A-F]{2}$/) as string,
        adminUrl: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/) as string,
      },
      pools: [{ username: 'root', url: expect.stringMatching(/^https:\/\/127\.0\.0\.1:\d+$/) as string }],
    });
    const [boot, data] = lab.vms[1]?.disks ?? [];
    expect(lab.vms.map((vm) => [vm.name, vm.firmware, vm.disks.length])).toEqual([
      ['web01', 'bios', 1],
      ['db01', 'uefi', 2],
    ]);
    expect(boot?.sizeBytes).toBeGreaterThan(0);
    expect((data?.sizeBytes ?? 0) % 512).toBe(0);
    expect((data?.sizeBytes ?? 0) % 65_536).not.toBe(0);
    expect((await stat(join(stateDir, 'lab.json'))).mode & 0o777).toBe(0o600);
    expect(first.lab.vsphere.password).not.toBe(first.lab.pools[0]?.password);

    const second = await launch('node', args);
    expect(second.exitCode, 'a second lab on the same folder').toBe(1);
    expect(second.stderr).toContain('is running');

    first.process.kill('SIGTERM');
    expect((await first.process).exitCode).toBe(0);
    await expectNoneLeft(stateDir);
    await expect(stat(join(stateDir, 'lab.json'))).rejects.toThrow('ENOENT');

    const again = await startLauncher('node', args);
    expect(again.lab).toEqual(lab);
    again.process.kill('SIGINT');
    expect((await again.process).exitCode).toBe(0);
    await expectNoneLeft(stateDir);
  });

  it('leaves no process behind when the launcher itself is killed', async () => {
    const stateDir = join(home, 'killed');
    const { process } = await startLauncher('node', ['dist/lab/main.js', '--json', '--state-dir', stateDir]);
    process.kill('SIGKILL');
    await process;
    await expectNoneLeft(stateDir);
  });

  it('leaves no process behind when npm is told to stop', async () => {
    const stateDir = join(home, 'npm');
    const { process } = await startLauncher('npm', ['run', 'lab', '--', '--json', '--state-dir', stateDir]);
    process.kill('SIGTERM');
    await process;
    await expectNoneLeft(stateDir);
  });
});

describe('guest of the lab, and VDDK on the lab', () => {
  const stateDir = () => join(home, 'parts');
  const guest = (...args: string[]) =>
    launch('node', ['dist/lab/main.js', 'guest', ...args, '--state-dir', stateDir()]);
  let running: Launched;
  let admin: VsphereAdmin;

  beforeAll(async () => {
    running = await startLauncher('node', ['dist/lab/main.js', '--json', '--state-dir', stateDir()]);
    admin = new VsphereAdmin(running.lab.vsphere.adminUrl);
  });
  afterAll(async () => {
    running?.process.kill('SIGTERM');
    await running?.process;
  });

  async function govc(...args: string[]): Promise<void> {
    const { url, username, password } = running.lab.vsphere;
    const env = { GOVC_URL: url, GOVC_USERNAME: username, GOVC_PASSWORD: password, GOVC_INSECURE: '1', HOME: home };
    await execa(cachePath('bin', 'govc'), args, { env });
  }

  /** Copies web01's only disk out of a snapshot through the real nbdkit; resolves with its SHA-256. */
  async function readSnapshot(snapshotMoRef: string): Promise<string> {
    const vm = await admin.vm('web01');
    const { vsphere, vddkLibdir } = running.lab;
    const nbdkit = (await readFile(cachePath('nbdkit.path'), 'utf8')).trim();
    const out = join(home, 'copy.raw');
    const passwordFile = join(home, 'password');
    await writeFile(passwordFile, vsphere.password, { mode: 0o600 });
    await chmod(passwordFile, 0o600);
    const link = vm.disks[0]?.chain.find(({ snapshot }) => snapshot === snapshotMoRef);
    await execa(nbdkit, [
      ...[
        '-r',
        '-U',
        join(home, `socket-${++runs}`),
        'vddk',
        `libdir=${vddkLibdir}`,
        'server=127.0.0.1',
        `port=${new URL(vsphere.url).port}`,
      ],
      ...[`user=${vsphere.username}`, `password=+${passwordFile}`, `thumbprint=${vsphere.thumbprintSha1}`],
      ...[`vm=moref=${vm.moRef}`, `snapshot=${snapshotMoRef}`, `file=${link?.name}`],
      ...['--run', `nbdcopy "$uri" ${out}`],
    ]);
    return sha256(out);
  }

  async function sha256(path: string): Promise<string> {
    return createHash('sha256')
      .update(await readFile(path))
      .digest('hex');
  }

  it('reads through nbdkit what a snapshot froze, whatever the guest writes afterwards', async () => {
    const input = await sha256(running.lab.vms[0]?.disks[0]?.path ?? '');
    await govc('snapshot.create', '-vm', 'web01', '-m=false', 'one');
    const { exitCode, stdout } = await guest('web01', 'write');
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/web01 wrote 98816 bytes to disk 0 \(key 2000\) at \d+\./);
    await govc('snapshot.create', '-vm', 'web01', '-m=false', 'two');
    const [one, two] = (await admin.vm('web01')).snapshots.map(({ moRef }) => moRef);
    expect(await readSnapshot(one ?? '')).toBe(input);
    expect(await readSnapshot(two ?? '')).not.toBe(input);
    await setVddkFaults(running.lab.vddkLibdir, { fail_open: '1+' });
    await expect(readSnapshot(one ?? '')).rejects.toThrow(/refused connection/);
    await setVddkFaults(running.lab.vddkLibdir, {});
  });

  it('lets the administrator of a guest remove Tools, restart and shut down', async () => {
    const before = await admin.vm('db01');
    expect((await guest('db01', 'remove-tools')).exitCode).toBe(0);
    expect((await guest('db01', 'reboot')).exitCode).toBe(0);
    const after = await admin.vm('db01');
    expect(after.tools).toBe('none');
    expect(after.bootTime).not.toBe(before.bootTime);
    expect((await guest('db01', 'shutdown')).exitCode).toBe(0);
    await expect.poll(() => admin.powerState('db01')).toBe('poweredOff');
    const refused = await guest('db01', 'write');
    expect(refused.exitCode).toBe(1);
    expect(refused.stderr).toMatch(/db01/);
  });

  it('says so when there is no such VM or no such lab', async () => {
    expect((await guest('nobody', 'reboot')).stderr).toContain('nobody');
    const elsewhere = await launch('node', ['dist/lab/main.js', 'guest', 'web01', 'reboot', '--state-dir', home]);
    expect(elsewhere.exitCode).toBe(1);
    expect(elsewhere.stderr).toContain('No lab is running');
  });

  it('does not empty a folder that no lab made', async () => {
    const { exitCode, stderr } = await launch('node', ['dist/lab/main.js', '--json', '--fresh', '--state-dir', home]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain('is no state folder of a lab');
  });
});
