import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadCompose, ROOT, type Compose, type Service } from './compose.js';

const LASTING = ['orchestrator', 'postgresql', 'temporal', 'transfer', 'ui'].sort();
const ONCE = ['prepare', 'schema'];
const OURS = ['orchestrator', 'prepare', 'transfer'];

let compose: Compose;
let folder: string;

beforeAll(async () => {
  compose = await loadCompose();
  folder = await mkdtemp(join(tmpdir(), 'surefire-compose-'));
});

afterAll(() => rm(folder, { recursive: true, force: true }));

const service = (name: string): Service => compose.services[name]!;
const of = <T>(names: string[], look: (service: Service) => T) =>
  Object.fromEntries(names.map((name) => [name, look(service(name))]));
const all = <T>(names: string[], value: T) => Object.fromEntries(names.map((name) => [name, value]));

describe('docker-compose.yml', () => {
  it('has the server, its database, its Web UI, both workers, and two jobs that prepare them', () => {
    expect(Object.keys(compose.services).sort()).toEqual([...LASTING, ...ONCE].sort());
  });

  it('starts in order: the schema first, at every upgrade too, workers when the namespace is ready', () => {
    const after = (name: string) =>
      Object.entries(service(name).depends_on ?? {}).map(([other, { condition }]) => `${other} ${condition}`);
    expect(Object.fromEntries(Object.keys(compose.services).map((name) => [name, after(name)]))).toEqual({
      postgresql: [],
      schema: ['postgresql service_healthy'],
      temporal: ['schema service_completed_successfully'],
      prepare: ['temporal service_healthy'],
      ui: ['temporal service_healthy'],
      orchestrator: ['prepare service_completed_successfully'],
      transfer: ['prepare service_completed_successfully'],
    });
  });

  it('starts what lasts again, whatever ends it, and asks it whether it works; jobs are tried a few times', () => {
    expect(of(LASTING, ({ restart }) => restart)).toEqual(all(LASTING, 'unless-stopped'));
    expect(of(ONCE, ({ restart }) => restart)).toEqual(all(ONCE, 'on-failure:5'));
    expect(of(LASTING, ({ healthcheck }) => healthcheck?.test[0])).toEqual(all(LASTING, 'CMD'));
    expect(service('transfer').healthcheck?.test).toEqual(['CMD', 'surefire', 'health', 'transfer']);
    expect(service('orchestrator').healthcheck?.test).toEqual(['CMD', 'surefire', 'health', 'orchestrator']);
  });

  it('gives workers longer to stop than they take at most, so that copies end at a checkpoint', async () => {
    const limit = /shutdownForceTime: '(\d+) seconds'/.exec(await readFile(join(ROOT, 'src/worker.ts'), 'utf8'))?.[1];
    expect(Number(limit)).toBeLessThan(120);
    expect(of(['orchestrator', 'transfer'], (worker) => worker.stop_grace_period)).toEqual(
      all(['orchestrator', 'transfer'], '2m0s'),
    );
    expect(of(['postgresql', 'temporal'], (lasting) => lasting.stop_grace_period)).toEqual({
      postgresql: '1m0s',
      temporal: '30s',
    });
  });

  it('is reached from this host only', () => {
    const published = Object.values(compose.services).flatMap(({ ports }) => ports ?? []);
    expect(published.map(({ host_ip, published: port }) => `${host_ip}:${port}`).sort()).toEqual([
      '127.0.0.1:7233',
      '127.0.0.1:8233',
    ]);
  });

  it('holds no secret: PostgreSQL and Temporal read the password from a file, the others do not get it', () => {
    const variables = Object.values(compose.services).flatMap(({ environment }) => Object.entries(environment ?? {}));
    const telling = variables.filter(([name]) => /pass|pwd|secret|token|key/i.test(name));
    expect(telling).toEqual([['POSTGRES_PASSWORD_FILE', '/run/secrets/postgres-password']]);
    const given = Object.entries(compose.services).filter(([, { secrets }]) => secrets !== undefined);
    expect(given.map(([name]) => name).sort()).toEqual(['postgresql', 'schema', 'temporal']);
    expect(compose.secrets['postgres-password']?.file).toBe(join(ROOT, 'config/secrets/postgres-password'));
  });

  it('mounts configuration, secrets and VDDK for reading only, and makes no folder where one is missing', () => {
    const binds = Object.values(compose.services).flatMap(({ volumes }) => volumes ?? []);
    const own = binds.filter(({ type }) => type === 'bind');
    expect(own.every(({ read_only, bind }) => read_only && bind?.create_host_path === false)).toBe(true);
    expect(own.map(({ source, target }) => `${source.slice(ROOT.length)} ${target}`).sort()).toEqual([
      'config /etc/surefire',
      'config /etc/surefire',
      'config /etc/surefire',
      'deploy/temporal /etc/temporal/surefire',
      'deploy/temporal /etc/temporal/surefire',
      'deploy/vddk /opt/vddk',
    ]);
    // The one thing that must not be lost has a volume with a name.
    expect(binds.filter(({ type }) => type !== 'bind').map(({ source }) => source)).toEqual(['postgresql']);
    expect(Object.keys(compose.volumes)).toEqual(['postgresql']);
  });

  it("shuts the Web UI's ways around the undo", () => {
    const disabled = Object.entries(service('ui').environment ?? {}).filter(([name]) => name.endsWith('_DISABLED'));
    expect(Object.fromEntries(disabled)).toEqual({
      TEMPORAL_WORKFLOW_TERMINATE_DISABLED: 'true',
      TEMPORAL_WORKFLOW_RESET_DISABLED: 'true',
      TEMPORAL_BATCH_ACTIONS_DISABLED: 'true',
      TEMPORAL_START_WORKFLOW_DISABLED: 'true',
    });
  });

  it('runs our containers as nobody special, on one host name, which is in the name of the queue', () => {
    const restrained = { user: '1000:1000', hostname: 'surefire', read_only: true, cap_drop: ['ALL'] };
    expect(of(OURS, ({ user, hostname, read_only, cap_drop }) => ({ user, hostname, read_only, cap_drop }))).toEqual(
      all(OURS, restrained),
    );
    expect(of(OURS, ({ security_opt }) => security_opt)).toEqual(all(OURS, ['no-new-privileges:true']));
  });

  it('names versions: its own is that of package.json, a log does not fill the disk', async () => {
    const { version } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { version: string };
    expect(of(Object.keys(compose.services), ({ image }) => image)).toEqual({
      ...all(OURS, `surefire:${version}`),
      postgresql: 'postgres:16',
      schema: 'temporalio/admin-tools:1.31.2',
      temporal: 'temporalio/server:1.31.2',
      ui: 'temporalio/ui:2.50.1',
    });
    const limited = Object.values(compose.services).map(({ logging }) => logging?.options?.['max-size']);
    expect(new Set(limited)).toEqual(new Set(['20m']));
  });

  it('takes every variable that .env.example shows, with the default that it shows', async () => {
    const text = await readFile(join(ROOT, '.env.example'), 'utf8');
    const shown = Object.fromEntries(
      [...text.matchAll(/^#(\w+)=(.*)$/gm)].map(([, name = '', value = '']) => [name, value]),
    );
    expect(await loadCompose(undefined, shown)).toEqual(compose);
    const file = await readFile(join(ROOT, 'docker-compose.yml'), 'utf8');
    expect(Object.keys(shown).sort()).toEqual(
      [...new Set([...file.matchAll(/\$\{(SUREFIRE_\w+):-/g)].map(([, name = '']) => name))].sort(),
    );
  });

  it.each([
    ['a misspelt key', 'restart: unless-stopped', 'restrat: unless-stopped'],
    ['a condition that does not exist', 'condition: service_healthy', 'condition: service_helthy'],
    ['a service that does not exist', 'schema: { condition', 'shcema: { condition'],
    ['a secret that nobody defines', 'secrets: [postgres-password]', 'secrets: [postgres-pasword]'],
  ])('would be refused by the loader with %s', async (_what, right, wrong) => {
    const text = await readFile(join(ROOT, 'docker-compose.yml'), 'utf8');
    expect(text).toContain(right);
    const file = join(folder, 'docker-compose.yml');
    await writeFile(file, text.replace(right, wrong));
    await expect(loadCompose(file)).rejects.toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining('The compose file is refused') as string,
    });
  });
});

describe('deploy/surefire', () => {
  it('can be run', async () => {
    expect((await stat(join(ROOT, 'deploy/surefire'))).mode & 0o111).toBe(0o111);
  });
});
