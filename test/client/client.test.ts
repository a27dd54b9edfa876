import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RunningTemporal } from '../../src/cli/index.js';
import { connectClient, migrationIdOf, type SurefireClient } from '../../src/client.js';
import { failureMessageOf, failureTypeOf } from '../../src/shared/index.js';
import { makeFolder, startServer, waitFor } from '../cli/harness.js';
import { inputOf, PROGRESS, startTinyWorker } from './tiny-worker.js';

const place = makeFolder();
let temporal: RunningTemporal;
let client: SurefireClient;
let worker: { stop(): Promise<void> };

beforeAll(async () => {
  temporal = await startServer(place.folder);
  worker = await startTinyWorker(temporal.address);
  const { address, webUrl } = temporal;
  client = await connectClient({ temporal: { address, webUrl, namespace: 'surefire' } });
});

afterAll(async () => {
  await client?.close();
  await worker?.stop();
  await temporal?.stop();
  place.remove();
});

async function started(vm: string) {
  const input = inputOf(vm);
  return { input, ...(await client.start(input)) };
}

async function refusal(action: Promise<unknown>): Promise<{ type?: string; text: string }> {
  try {
    await action;
  } catch (error) {
    return { type: failureTypeOf(error), text: failureMessageOf(error) };
  }
  throw new Error('nothing was refused');
}

const word = { operator: 'tester' };

describe('client', () => {
  it('gives a migration a short id and its page in the Web UI, on the tab that says what to do', async () => {
    const { migrationId, webUrl, runId, input } = await started('web01');
    expect(migrationId).toBe(`migration/vc/${input.source.vmMoRef}`);
    const page = `${temporal.webUrl}/namespaces/surefire/workflows/migration%2Fvc%2F${input.source.vmMoRef}`;
    expect(webUrl).toBe(`${page}/${runId}/user-metadata`);
  });

  it('refuses a second start of the same VM while the first runs', async () => {
    const { input } = await started('web02');
    const { type, text } = await refusal(client.start(input));
    expect(type).toBe('MigrationRunning');
    expect(text).toMatch(/^web02 is being migrated already, since .*, now in stage/);
  });

  it("shows search attributes and the workflow's own answer", async () => {
    const { migrationId } = await started('web03');
    const view = await client.status(migrationId);
    expect(view).toMatchObject({ vm: 'web03', vcenter: 'vc', pool: 'p', outcome: 'running', execution: 'RUNNING' });
    expect(view.status?.instruction).toBe('Uninstall VMware Tools.');
  });

  it('decodes the progress of a transfer from its heartbeat', async () => {
    const { migrationId } = await started('copies');
    const step = await waitFor(async () => (await client.status(migrationId)).steps.find((each) => each.progress), 20);
    expect(step).toMatchObject({ type: 'copyDisk', attempt: 1, paused: false, progress: PROGRESS });
  });

  it('hands on the refusal of a validator, in its own words', async () => {
    const { migrationId } = await started('web04');
    const { type, text } = await refusal(client.send('approveCutover', migrationId, word));
    expect(type).toBe('WrongStage');
    expect(text).toContain('approveCutover was refused: the stage is tools-removal.');
  });

  it('accepts on the second try what lacked evidence on the first', async () => {
    const { migrationId } = await started('web05');
    expect((await refusal(client.send('confirmToolsRemoved', migrationId, word))).type).toBe('EvidenceMissing');
    await client.send('addNote', migrationId, { ...word, text: 'tools are gone' });
    expect((await client.send('confirmToolsRemoved', migrationId, word)).stage).toBe('tools-removal');
    expect(await client.result(migrationId)).toMatchObject({ outcome: 'migrated', report: { vm: 'web05' } });
  });

  it('refuses to repeat a success without a reason, and repeats it with one', async () => {
    const { migrationId, input } = await started('web06');
    await client.send('confirmToolsRemoved', migrationId, { ...word, override: true });
    await client.result(migrationId);
    expect((await refusal(client.start(input))).type).toBe('AlreadyMigrated');
    expect((await client.start({ ...input, repeatReason: 'target was lost' })).migrationId).toBe(migrationId);
  });

  it('reads the report out of a failed run, and permits another try', async () => {
    const { migrationId, input } = await started('fails');
    await client.send('confirmToolsRemoved', migrationId, { ...word, override: true });
    const ending = await client.result(migrationId);
    expect(ending).toMatchObject({ outcome: 'rolled-back', failure: { type: 'RolledBack' }, report: { vm: 'fails' } });
    expect((await client.start(input)).migrationId).toBe(migrationId);
  });

  it('keeps in the record who cancelled and why', async () => {
    const { migrationId } = await started('web07');
    await client.cancel(migrationId, { operator: 'tester', reason: 'postponed' });
    const { outcome, report } = await client.result(migrationId);
    expect(outcome).toBe('aborted');
    expect(report?.record.at(-1)).toMatchObject({ by: 'tester', text: 'Cancel was asked for: postponed' });
    expect((await refusal(client.send('addNote', migrationId, { ...word, text: 'late' }))).type).toBe('WrongStage');
  });

  it('lists one row for each VM, its newest run', async () => {
    const { migrationId, input } = await started('fails');
    await client.send('confirmToolsRemoved', migrationId, { ...word, override: true });
    await client.result(migrationId);
    const { runId } = await client.start(input);
    const row = await waitFor(async () => (await client.list()).find((each) => each.runId === runId), 10);
    expect(row).toMatchObject({ migrationId, vm: 'fails', pool: 'p', execution: 'RUNNING' });
    expect((await client.list()).filter((each) => each.migrationId === migrationId)).toHaveLength(1);
  });

  it('says what the server has and lacks', async () => {
    const { serverVersion, missingAttributes, workers } = await client.health('transfer.test');
    expect(serverVersion).toMatch(/^\d+\./);
    expect(missingAttributes).toEqual([]);
    expect(workers['surefire']?.length).toBe(1);
    expect(workers['transfer.test']).toEqual([]);
  });

  it('names an unknown migration, and a server that is not there', async () => {
    expect((await refusal(client.status(migrationIdOf('vc', 'vm-none')))).type).toBe('MigrationNotFound');
    const nowhere = { temporal: { address: '127.0.0.1:9', namespace: 'surefire', webUrl: 'http://x' } };
    const { type, text } = await refusal(connectClient(nowhere));
    expect(type).toBe('TemporalUnreachable');
    expect(text).toContain('Next: start it with `surefire up`');
  });
});
