import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, it } from 'vitest';
import { NbdClient, startNbdkit, sweepLeftovers } from '../../src/nbd/index.js';
import { failureTypeOf } from '../../src/shared/errors.js';
import { onCleanup, serve, tempDir } from './nbdkit.js';

async function isRunning(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ') Z');
  return !/\) Z/.test(status);
}

describe('startNbdkit', () => {
  it('[S29] always serves read only, on a socket in a folder that is ours alone', async () => {
    const nbdkit = await serve(['memory', '1M']);
    expect(nbdkit.commandLine).toMatch(/^nbdkit -r /);
    expect((await stat(dirname(nbdkit.socketPath))).mode & 0o777).toBe(0o700);
    const info = await execa('nbdinfo', ['--json', `nbd+unix:///?socket=${nbdkit.socketPath}`]);
    expect(JSON.parse(info.stdout)).toMatchObject({ exports: [{ is_read_only: true }] });
  });

  it('[S1] keeps the command line for the record, and the password out of argv, environment and record', async () => {
    const password = 'hunter2-and-more';
    // The `ssh` plugin reads its password at the start, as vddk does, and connects only for a client.
    const nbdkit = await serve(['ssh', 'host=127.0.0.1', 'path=/disk', 'user=root'], { secretPassword: password });
    const argv = await readFile(`/proc/${nbdkit.pid}/cmdline`, 'utf8');
    expect(argv).toContain('password=-3');
    expect(argv).not.toContain(password);
    expect(await readFile(`/proc/${nbdkit.pid}/environ`, 'utf8')).not.toContain(password);
    expect(nbdkit.commandLine).toContain('user=root password=-3');
  });

  it('replaces secrets in what nbdkit prints', async () => {
    const started = startNbdkit({
      runDir: await tempDir(),
      plugin: ['file', '/nonexistent/hunter2-and-more'],
      secretPassword: 'hunter2-and-more',
      subject: '[ds] a/a.vmdk',
    });
    const error: Error = await started.then(
      () => expect.fail('started'),
      (reason: Error) => reason,
    );
    expect(error.message).toContain('***');
    expect(error.message).not.toContain('hunter2');
  });

  it('says what nbdkit said when it cannot start', async () => {
    const runDir = await tempDir();
    const started = startNbdkit({ runDir, plugin: ['file', '/nonexistent'], subject: '[ds] a/a.vmdk' });
    await expect(started).rejects.toThrow(
      /nbdkit ended with code 1 while starting for \[ds\] a\/a.vmdk.\n.*No such file/s,
    );
    expect(await readdir(runDir)).toEqual([]);
  });

  it('names the missing program', async () => {
    const started = startNbdkit({
      runDir: await tempDir(),
      nbdkitCommand: '/nonexistent/nbdkit',
      plugin: ['memory', '1M'],
      subject: 'a',
    });
    await expect(started).rejects.toSatisfy((error) => failureTypeOf(error) === 'ConfigInvalid');
  });

  it('stops although a read hangs, and removes its folder and its record', async () => {
    const runDir = await tempDir();
    const nbdkit = await serve(['memory', '1M'], { runDir, filters: ['delay'], extraArgs: ['delay-read=100'] });
    const client = await NbdClient.connect({ socketPath: nbdkit.socketPath });
    const read = client.read(0, 512, Buffer.alloc(1024));
    const rejected = expect(read).rejects.toThrow();
    await nbdkit.stop();
    await rejected;
    expect(await isRunning(nbdkit.pid)).toBe(false);
    await expect(stat(nbdkit.folder)).rejects.toThrow('ENOENT');
    expect(await readdir(runDir)).toEqual([]);
  });
});

describe('sweepLeftovers', () => {
  it('leaves the children of a living worker alone', async () => {
    const runDir = await tempDir();
    const nbdkit = await serve(['memory', '1M'], { runDir });
    expect(await sweepLeftovers(runDir)).toEqual([]);
    expect(await isRunning(nbdkit.pid)).toBe(true);
  });

  it('kills exactly the processes whose worker is gone', async () => {
    const runDir = await tempDir();
    const nbdkit = await serve(['memory', '1M'], { runDir });
    const other = await serve(['memory', '1M'], { runDir });
    const dead = execa('true');
    await dead;
    const file = join(runDir, (await readdir(runDir)).find((name) => name.startsWith(`${nbdkit.pid}-`)) as string);
    const record = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
    await writeFile(file, JSON.stringify({ ...record, ownerPid: dead.pid }));
    // The same pid, but an older process: it must not be killed.
    await writeFile(
      join(runDir, 'old.nbdkit.json'),
      JSON.stringify({
        ...record,
        pid: other.pid,
        startTime: '1',
        ownerPid: dead.pid,
        socketFolder: join(runDir, 'none'),
      }),
    );
    expect(await sweepLeftovers(runDir)).toEqual([nbdkit.pid]);
    expect(await isRunning(nbdkit.pid)).toBe(false);
    expect(await isRunning(other.pid)).toBe(true);
    await expect(stat(nbdkit.folder)).rejects.toThrow('ENOENT');
    expect((await readdir(runDir)).length).toBe(1);
  });

  it('finds nothing in a folder that does not exist', async () => {
    expect(await sweepLeftovers('/nonexistent/run')).toEqual([]);
  });
});

describe('parent death', () => {
  it('takes nbdkit along when its worker is killed', async () => {
    const runDir = await tempDir();
    const script = `
      import { startNbdkit } from ${JSON.stringify(join(process.cwd(), 'src/nbd/index.ts'))};
      const nbdkit = await startNbdkit({ runDir: ${JSON.stringify(runDir)}, plugin: ['memory', '1M'], subject: 'a' });
      console.log(nbdkit.pid);
      setInterval(() => {}, 1000);`;
    const worker = execa(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
      reject: false,
      buffer: false,
    });
    onCleanup(async () => (worker.kill('SIGKILL'), worker));
    const pid = await new Promise<number>((resolve) =>
      worker.stdout.once('data', (line: Buffer) => resolve(Number(line))),
    );
    expect(await isRunning(pid)).toBe(true);
    worker.kill('SIGKILL');
    await worker;
    await expect.poll(() => isRunning(pid)).toBe(false);
    await sweepLeftovers(runDir);
    expect(await readdir(runDir)).toEqual([]);
  });
});
