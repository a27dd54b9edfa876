import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadCompose, ROOT } from './compose.js';

const UNITS = ['surefire-up.service', 'surefire-worker@.service', 'temporal.service'];
/** What `systemd-analyze security` calls OK is below 5.0; a service that is reached and reads disks should do better. */
const MOST_EXPOSURE_TENTHS = 20;

let root: string;

// No systemd runs here: it looks at a file tree as a host would have it, in which our own programs are where they are installed.
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'surefire-units-'));
  await mkdir(join(root, 'usr/lib/systemd'), { recursive: true });
  await cp('/usr/lib/systemd/system', join(root, 'usr/lib/systemd/system'), {
    recursive: true,
    verbatimSymlinks: true,
  });
  await cp(join(ROOT, 'deploy'), join(root, 'opt/surefire/deploy'), { recursive: true });
  for (const program of ['usr/bin/node', 'bin/sh']) {
    await mkdir(join(root, dirname(program)), { recursive: true });
    await writeFile(join(root, program), '#!/bin/sh\n');
    await chmod(join(root, program), 0o755);
  }
  await mkdir(join(root, 'etc/systemd/system'), { recursive: true });
  for (const unit of UNITS) await install(unit);
});

afterAll(() => rm(root, { recursive: true, force: true }));

const text = (unit: string) => readFile(join(ROOT, 'deploy/systemd', unit), 'utf8');

async function install(unit: string, change = (found: string) => found): Promise<void> {
  await writeFile(join(root, 'etc/systemd/system', unit), change(await text(unit)));
}

async function verify(unit: string) {
  const { exitCode, all } = await execa('systemd-analyze', [`--root=${root}`, 'verify', unit], {
    reject: false,
    all: true,
  });
  return { exitCode, said: all };
}

const valueOf = async (unit: string, key: string) => new RegExp(`^${key}=(.*)$`, 'm').exec(await text(unit))?.[1];
const programsOf = async (unit: string) =>
  [...(await text(unit)).matchAll(/^Exec\w+=.*?\/opt\/surefire\/(\S+)/gm)].map(([, program = '']) => program);

describe('deploy/systemd', () => {
  it('has these units', async () => {
    const found = (await readdir(join(ROOT, 'deploy/systemd'))).filter((name) => name.endsWith('.service'));
    expect(found.sort()).toEqual(UNITS);
  });

  it.each([
    'surefire-up.service',
    'surefire-worker@orchestrator.service',
    'surefire-worker@transfer.service',
    'temporal.service',
  ])('%s passes systemd-analyze verify without a word', async (unit) => {
    expect(await verify(unit)).toEqual({ exitCode: 0, said: '' });
  });

  it('would not pass with a misspelt key or a program that is not there', async () => {
    await install('temporal.service', (unit) => unit.replace('Restart=always', 'Restrat=always'));
    expect((await verify('temporal.service')).said).toMatch(/Unknown key.*'Restrat'/);
    await install('temporal.service', (unit) => unit.replaceAll('server.sh', 'sever.sh'));
    expect((await verify('temporal.service')).said).toContain('sever.sh is not executable');
    await install('temporal.service');
  });

  it.each(UNITS)('%s leaves a service little to do harm with', async (unit) => {
    const { exitCode, all } = await execa(
      'systemd-analyze',
      [
        'security',
        '--offline=true',
        '--no-pager',
        `--threshold=${MOST_EXPOSURE_TENTHS}`,
        join(ROOT, 'deploy/systemd', unit),
      ],
      { reject: false, all: true },
    );
    expect(exitCode, all).toBe(0);
  });

  it('runs programs that a build makes and this repository has', async () => {
    const programs = [...new Set((await Promise.all(UNITS.map(programsOf))).flat())].sort();
    expect(programs).toEqual([
      'deploy/temporal/schema.sh',
      'deploy/temporal/server.sh',
      'dist/src/cli/main.js',
      'dist/src/worker.js',
    ]);
  });

  it('starts its services again whatever ends them, and gives workers the time they need to stop', async () => {
    for (const unit of UNITS) {
      expect(await valueOf(unit, 'Restart'), unit).toBe('always');
      expect(await valueOf(unit, 'StartLimitIntervalSec'), unit).toBe('0');
    }
    expect(Number(await valueOf('surefire-worker@.service', 'TimeoutStopSec'))).toBeGreaterThan(90);
    // `surefire up` waits 110 s for its workers, then 15 s for the server.
    expect(Number(await valueOf('surefire-up.service', 'TimeoutStopSec'))).toBeGreaterThan(125);
  });

  it('reads secrets as credentials: no service may open the files', async () => {
    for (const unit of UNITS) {
      expect(await valueOf(unit, 'DynamicUser'), unit).toBe('yes');
      expect(await valueOf(unit, 'LoadCredential'), unit).toMatch(
        /^(secrets:\/etc\/surefire\/secrets|postgres-password:\/etc\/surefire\/secrets\/postgres-password)$/,
      );
    }
  });

  it('gives the server the settings of docker-compose.yml, on this host only', async () => {
    const { services } = await loadCompose();
    const env = Object.fromEntries(
      [...(await text('temporal.env')).matchAll(/^(\w+)=(.*)$/gm)].map(([, name = '', value = '']) => [name, value]),
    );
    const here = {
      ...{ SQL_HOST: '127.0.0.1', POSTGRES_SEEDS: '127.0.0.1', BIND_ON_IP: '127.0.0.1' },
      ...{
        PROMETHEUS_ENDPOINT: '127.0.0.1:9090',
        DYNAMIC_CONFIG_FILE_PATH: '/opt/surefire/deploy/temporal/dynamicconfig.yaml',
      },
    };
    expect(env).toEqual({ ...services['schema']?.environment, ...services['temporal']?.environment, ...here });
  });
});
