import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectClient, type SurefireClient } from '../../src/client.js';
import type { RunningTemporal } from '../../src/cli/index.js';
import { inputOf, startTinyWorker } from '../client/tiny-worker.js';
import { makeFolder, runCli, spawnCli, startServer, waitFor } from './harness.js';

const place = makeFolder();
let temporal: RunningTemporal;
let client: SurefireClient;
let worker: { stop(): Promise<void> } | undefined;
let env: Record<string, string>;

beforeAll(async () => {
  temporal = await startServer(place.folder);
  worker = await startTinyWorker(temporal.address);
  const { address, webUrl } = temporal;
  env = { SUREFIRE_CONFIG: place.config, SUREFIRE_TEMPORAL_ADDRESS: address, SUREFIRE_TEMPORAL_WEB_URL: webUrl };
  client = await connectClient({ temporal: { address, webUrl, namespace: 'surefire' } });
});

afterAll(async () => {
  await client?.close();
  await worker?.stop();
  await temporal?.stop();
  place.remove();
});

const start = async (vm: string) => (await client.start(inputOf(vm))).migrationId;

describe('usage', () => {
  it.each([[['--help']], [['migrate', '--help']], [['approve', '--help']]])(
    'help of %j starts with an example',
    async (args) => {
      const { exitCode, stdout } = await runCli(args);
      expect(exitCode).toBe(0);
      expect(stdout).toMatch(/^Example: surefire /);
    },
  );

  it.each([
    [['conquer'], "unknown command 'conquer'"],
    [['status', '--colour'], "unknown option '--colour'"],
    [['reject', 'web01', '--then', 'redo'], "required option '--reason <TEXT>' not specified"],
    [['reject', 'web01', '--reason', 'x', '--then', 'cry'], 'Allowed choices are redo, abort'],
    [['migrate', 'web01', '--network', 'lan'], 'It must be SOURCE=TARGET.'],
    [['limit', 'web01', '9'.repeat(400)], 'It must be a number of MiB per second above 0, or off.'],
    [['pause', 'web01', '--reason', ' '], 'It must not be empty.'],
    [['migrate', 'web01', '--transport', 'nfs'], 'there is no NFS or vSAN-export transport'],
    [['up', '--port', 'high'], 'It must be a port number.'],
  ])('exits 2 for %j and says why', async (args, reason) => {
    const { exitCode, stdout, stderr } = await runCli(args, env);
    expect(stderr).toContain(reason);
    expect(stdout).toBe('');
    expect(exitCode).toBe(2);
  });

  it('exits 2 for a configuration that is not there, in three parts and without a stack', async () => {
    const { exitCode, stderr } = await runCli(['status', '--config', '/nonexistent/surefire.yaml']);
    expect(exitCode).toBe(2);
    expect(stderr.split('\n')).toEqual([
      'Configuration /nonexistent/surefire.yaml cannot be read (ENOENT).',
      'Next: copy docs/surefire.yaml.example there, or name another file with --config.',
    ]);
  });

  it('exits 10 when Temporal cannot be reached, with the error as JSON where asked', async () => {
    const away = { ...env, SUREFIRE_TEMPORAL_ADDRESS: '127.0.0.1:9' };
    const { exitCode, stdout, stderr } = await runCli(['status', '--json'], away);
    expect(exitCode).toBe(10);
    expect(stderr).toContain('Next: start it with `surefire up`');
    expect(JSON.parse(stdout)).toMatchObject({ schema: 1, error: { type: 'TemporalUnreachable' }, exitCode: 10 });
  });

  it('exits 11 for a migration that does not exist', async () => {
    const { exitCode, stderr } = await runCli(['status', 'nobody'], env);
    expect(stderr).toContain('There is no migration of "nobody".');
    expect(exitCode).toBe(11);
  });

  it('exits 2 when a name fits several running migrations, and lists them', async () => {
    const ids = [await start('twin'), await start('twin')];
    await waitFor(async () => (await client.list()).filter((row) => row.vm === 'twin').length === 2, 10);
    const { exitCode, stderr } = await runCli(['status', 'twin'], env);
    for (const id of ids) expect(stderr).toContain(id);
    expect(exitCode).toBe(2);
  });
});

describe('a migration at a gate', () => {
  it('shows what to do, the command that answers and the page in the Web UI', async () => {
    const id = await start('db01');
    const { stdout, exitCode } = await runCli(['status', id], env);
    expect(exitCode).toBe(0);
    expect(stdout).toContain('To do      Uninstall VMware Tools.');
    expect(stdout).toContain('Answer     surefire approve db01');
    expect(stdout).toContain(`${temporal.webUrl}/namespaces/surefire/workflows/${encodeURIComponent(id)}/`);
  });

  it('is one JSON document on stdout where asked, and nothing else', async () => {
    const id = await start('db02');
    const { stdout } = await runCli(['status', id, '--json'], env);
    expect(JSON.parse(stdout)).toMatchObject({
      schema: 1,
      vm: 'db02',
      status: { waitingFor: 'tools-removal' },
      steps: [],
    });
    const all = JSON.parse((await runCli(['status', '--json'], env)).stdout) as { migrations: { vm: string }[] };
    expect(all.migrations.map(({ vm }) => vm)).toContain('db02');
  });

  it('exits 13 when the evidence is missing, then is approved and keeps who did it', async () => {
    const id = await start('db03');
    const refused = await runCli(['approve', id], env);
    expect(refused.stderr).toBe('VMware Tools still run.\nNext: uninstall them.');
    expect(refused.exitCode).toBe(13);
    expect((await runCli(['note', id, 'tools are gone', '--as', 'dora'], env)).exitCode).toBe(0);
    const accepted = await runCli(['approve', id, '--json'], env);
    expect(JSON.parse(accepted.stdout)).toMatchObject({ schema: 1, migrationId: id, message: 'confirmToolsRemoved' });
    const { report } = await client.result(id);
    expect(report?.record.map(({ by }) => by)).toEqual(['dora', 'tester']);
  });

  it('exits 2 for an override without a reason, before anything is sent', async () => {
    const id = await start('db04');
    const { exitCode, stderr } = await runCli(['approve', id, '--override'], env);
    expect(stderr).toContain('An override needs a reason.');
    expect(exitCode).toBe(2);
  });

  it('is followed to its end: exit 0 for migrated', async () => {
    const id = await start('db05');
    const following = spawnCli(['watch', id, '--json'], env);
    await client.send('confirmToolsRemoved', id, { operator: 'tester', override: true });
    const { exitCode, stdout } = await following;
    const lines = stdout.split('\n').map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines[0]).toMatchObject({ schema: 1, event: 'stage', stage: 'tools-removal' });
    expect(lines.at(-1)).toMatchObject({ event: 'end', outcome: 'migrated' });
    expect(exitCode).toBe(0);
  });

  it('is followed to its end: exit 1 and the reason for one that was cancelled', async () => {
    const id = await start('db06');
    expect((await runCli(['cancel', id, '--reason', 'postponed'], env)).exitCode).toBe(0);
    const { exitCode, stdout } = await runCli(['watch', id], env);
    expect(stdout).toContain('Cancel was asked for: postponed (tester)');
    expect(stdout).toContain('db06: aborted.\ndb06 was cancelled.');
    expect(exitCode).toBe(1);
  });

  it('goes on when the watching is interrupted: exit 130', async () => {
    const id = await start('db07');
    const following = spawnCli(['watch', id], env);
    let heard = '';
    following.stdout.on('data', (chunk: Buffer) => (heard += chunk.toString()));
    await waitFor(async () => heard.includes('surefire approve db07'), 20);
    following.kill('SIGINT');
    const { exitCode, stderr } = await following;
    expect(stderr).toContain('The migration goes on; follow it again with `surefire watch');
    expect(exitCode).toBe(130);
    expect((await client.status(id)).execution).toBe('RUNNING');
  });

  it('leaves a report in Markdown, also when it failed', async () => {
    const id = await start('fails');
    await client.send('confirmToolsRemoved', id, { operator: 'tester', override: true });
    await client.result(id);
    const file = join(place.folder, 'report.md');
    expect((await runCli(['report', id, '--out', file], env)).exitCode).toBe(0);
    const text = readFileSync(file, 'utf8');
    expect(text).toMatch(/^# fails: rolled-back\n/);
    expect(text).toContain('confirmToolsRemoved was accepted. (tester)');
  });

  it('exits 13 for a word to one that has ended', async () => {
    const id = await start('db08');
    await client.send('confirmToolsRemoved', id, { operator: 'tester', override: true });
    await client.result(id);
    const { exitCode, stderr } = await runCli(['approve', id], env);
    expect(stderr).toContain('waits for nobody: its migration has ended');
    expect(exitCode).toBe(13);
  });

  it('is still shown when no worker runs, and a word is refused before it is lost', async () => {
    const id = await start('db09');
    await client.status(id);
    await worker?.stop();
    worker = undefined;
    const shown = await runCli(['status', id, '--json'], env);
    const view = JSON.parse(shown.stdout) as { vm: string; stage: string; statusUnavailable: string };
    expect(view).toMatchObject({ vm: 'db09', stage: 'preflight' });
    expect(view.statusUnavailable).toMatch(/^no worker answered/);
    const { exitCode, stderr } = await runCli(['approve', id], env);
    expect(stderr).toContain('Nothing was sent for db09');
    expect(exitCode).toBe(10);
  });
});
