import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cachePath } from '../../lab/cache.js';
import { setVddkFaults } from '../../lab/vddk/libdir.js';
import { ROOT } from '../deploy/compose.js';
import { Bench, plain, waitFor } from '../e2e/harness.js';
import { ComposeHome } from './compose-home.js';

const VERSIONS = 'SELECT curr_version FROM schema_version';
const DATABASES = ['temporal', 'temporal_visibility'];

let bench: Bench;
let home: ComposeHome;

beforeAll(async () => {
  bench = await Bench.start(
    [plain('lasting')],
    undefined,
    {},
    async (config) => (home = await ComposeHome.start(config)),
  );
});

afterAll(() => bench?.stop());

const schemaVersions = () => Promise.all(DATABASES.map((database) => home.postgres.query(database, VERSIONS)));

// What docker-compose.yml says, on a real PostgreSQL and a real server, without containers.
describe('the large home', () => {
  it('has a schema, which the same job brings up to date a second time without changing anything', async () => {
    const before = await schemaVersions();
    expect(before).toEqual([expect.stringMatching(/^1\.\d+$/), expect.stringMatching(/^1\.\d+$/)]);
    await home.run('schema');
    expect(await schemaVersions()).toEqual(before);
  });

  it('is made ready a second time by the same job', async () => {
    expect(await home.run('prepare')).toContain('Namespace surefire of 127.0.0.1:');
    expect((await bench.client.health(bench.config.transfer.queue)).missingAttributes).toEqual([]);
  });

  it('has a Web UI in which nobody can terminate a migration, or reset one', async () => {
    const settings = await waitFor('the Web UI', async () => {
      const answer = await fetch(`${home.webUrl}/api/v1/settings`).catch(() => undefined);
      return answer?.ok && ((await answer.json()) as Record<string, unknown>);
    });
    expect(settings).toMatchObject({
      DefaultNamespace: 'surefire',
      WorkflowTerminateDisabled: true,
      WorkflowResetDisabled: true,
      BatchActionsDisabled: true,
      StartWorkflowDisabled: true,
      WorkflowCancelDisabled: false,
      WorkflowUpdateDisabled: false,
    });
    const page = new URL(home.compose.services['ui']?.healthcheck?.test.at(-1) ?? '');
    expect((await fetch(`${home.webUrl}${page.pathname}`)).status).toBe(200);
  });

  it('has settings that this version of the server knows', async () => {
    const file = join(ROOT, 'deploy/temporal/dynamicconfig.yaml');
    const { exitCode, all } = await execa(cachePath('bin', 'temporal-server'), ['validate-dynamic-config', file], {
      ...{ all: true, reject: false },
    });
    expect(exitCode, all).toBe(0);
    expect(all).not.toMatch(/unrecognized|unknown|invalid/i);
  });

  it('takes a VM through the whole procedure, although the server is killed in the middle of its disk', async () => {
    const workers = ['orchestrator', 'transfer'].map((name) => home.pid(name));
    const { vddkLibdir } = bench.lab.description;
    await setVddkFaults(vddkLibdir, { read_delay_us: 300_000 });
    const run = await bench.migrate('lasting', { policy: { transport: 'vddk' } });
    await run.isSending();
    await home.crash('temporal');
    home.launch('temporal');
    await waitFor('the server to answer', () => bench.client.status(run.id).catch(() => undefined));
    await setVddkFaults(vddkLibdir, {});

    await run.goTo('cutover-approval');
    await bench.guestWrites('lasting');
    await run.goTo('acceptance');
    const report = await run.accept();
    expect(await run.comparesEqual(report)).toEqual([true]);
    expect(report.leftovers).toEqual([]);
    // The same processes all the time: they found the server again by themselves.
    expect(['orchestrator', 'transfer'].map((name) => home.pid(name))).toEqual(workers);
    for (const name of ['orchestrator', 'transfer']) await home.isHealthy(name);
  });
});
