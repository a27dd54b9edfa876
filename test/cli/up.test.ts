import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Connection } from '@temporalio/client';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { connectClient } from '../../src/client.js';
import { failureMessageOf, failureTypeOf } from '../../src/shared/index.js';
import { prepareNamespace } from '../../src/namespace.js';
import { findTemporal, startTemporal } from '../../src/cli/index.js';
import { supervise } from '../../src/cli/up/supervise.js';
import { inputOf, startTinyWorker } from '../client/tiny-worker.js';
import { makeFolder, runCli, spawnCli, startServer, waitFor } from './harness.js';

const place = makeFolder();

afterAll(() => place.remove());

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

interface Ready {
  address: string;
  webUrl: string;
  temporalPid: number;
  workers: { role: string; queue: string; pid: number }[];
}

describe('startTemporal', () => {
  it('keeps ended migrations for 90 days, registers the attributes again without complaint, and stops cleanly', async () => {
    const server = await startServer(place.folder);
    await prepareNamespace({ address: server.address, namespace: 'surefire' }, Date.now() + 60_000);
    const connection = await Connection.connect({ address: server.address });
    const { config } = await connection.workflowService.describeNamespace({ namespace: 'surefire' });
    expect(Number(config?.workflowExecutionRetentionTtl?.seconds)).toBe(90 * 86_400);
    await connection.close();
    const client = await connectClient({ temporal: { ...server, namespace: 'surefire' } });
    expect((await client.health('transfer.test')).missingAttributes).toEqual([]);
    await client.close();
    await server.stop();
    expect(alive(server.pid)).toBe(false);
  });

  it('goes on where it was when started again on the same file', async () => {
    const first = await startServer(place.folder);
    const before = await connectClient({ temporal: { ...first, namespace: 'surefire' } });
    const { migrationId } = await before.start(inputOf('kept'));
    await before.close();
    await first.stop();
    const second = await startServer(place.folder);
    const after = await connectClient({ temporal: { ...second, namespace: 'surefire' } });
    expect((await after.list()).map((row) => row.migrationId)).toEqual([migrationId]);
    await after.close();
    await second.stop();
  });

  it('says that a port is taken before it starts anything', async () => {
    const first = await startServer(place.folder);
    const port = Number(first.address.split(':')[1]);
    const second = startTemporal({
      program: findTemporal(),
      ...{ dbFile: join(place.folder, 'other.db'), logFile: join(place.folder, 'other.log') },
      ...{ namespace: 'surefire', port, uiPort: 0 },
    });
    const error: unknown = await second.catch((reason: unknown) => reason);
    expect(failureTypeOf(error)).toBe('TemporalUnreachable');
    expect(failureMessageOf(error)).toContain(`Port ${port} of 127.0.0.1 cannot be used for Temporal (EADDRINUSE).`);
    expect(existsSync(join(place.folder, 'other.log'))).toBe(false);
    await first.stop();
  });

  it('refuses a database that another one has open, every time, and takes it when that one has ended', async () => {
    const first = await startServer(place.folder);
    for (let attempt = 0; attempt < 3; attempt++) {
      const error: unknown = await startServer(place.folder).catch((reason: unknown) => reason);
      expect(failureTypeOf(error)).toBe('TemporalUnreachable');
      expect(failureMessageOf(error)).toMatch(/^The database .* is open in another `surefire up`/);
    }
    await first.stop();
    await (await startServer(place.folder)).stop();
  });

  it('quotes the server when it does not come up: the file is no database', async () => {
    const folder = join(place.folder, 'broken');
    mkdirSync(folder);
    writeFileSync(join(folder, 'temporal.db'), 'not a database, '.repeat(100));
    const error: unknown = await startServer(folder).catch((reason: unknown) => reason);
    expect(failureTypeOf(error)).toBe('TemporalUnreachable');
    expect(failureMessageOf(error)).toMatch(/not a database/);
  });

  it('refuses attributes that exist with another type', async () => {
    const server = await startServer(place.folder);
    const connection = await Connection.connect({ address: server.address });
    await connection.workflowService.registerNamespace({
      namespace: 'strange',
      workflowExecutionRetentionPeriod: { seconds: { low: 86_400, high: 0, unsigned: false } as never },
    });
    const add = () =>
      connection.operatorService.addSearchAttributes({ namespace: 'strange', searchAttributes: { MigrationStage: 3 } });
    await waitFor(
      () =>
        add()
          .then(() => true)
          .catch(() => false),
      60,
    );
    const error: unknown = await prepareNamespace(
      { address: server.address, namespace: 'strange' },
      Date.now() + 60_000,
    ).catch((e: unknown) => e);
    expect(failureMessageOf(error)).toContain(
      'Namespace strange has search attributes of another type: MigrationStage.',
    );
    await connection.close();
    await server.stop();
  });
});

describe('supervise', () => {
  it('starts a process again that dies, saying how it died, and ends it for good when asked', async () => {
    const script = join(place.folder, 'dies-once.cjs');
    const mark = join(place.folder, 'died');
    writeFileSync(
      script,
      `const fs = require('node:fs');
if (!fs.existsSync(${JSON.stringify(mark)})) { fs.writeFileSync(${JSON.stringify(mark)}, ''); console.error('Error: no disk today\\n\\nNode.js'); process.exit(7); }
setInterval(() => undefined, 1000);`,
    );
    const said: string[] = [];
    const logFile = join(place.folder, 'dies.log');
    const command = [process.execPath, script];
    const worker = supervise({
      name: 'test worker',
      command,
      env: {},
      logFile,
      say: (line) => said.push(line),
      firstDelayMs: 10,
    });
    const first = worker.pid();
    await waitFor(async () => worker.pid() !== first && alive(worker.pid()), 60);
    expect(said).toHaveLength(1);
    expect(said[0]).toContain('The test worker ended with code 7 after');
    expect(said[0]).toContain('it said: Error: no disk today');
    await worker.stop();
    expect(alive(worker.pid())).toBe(false);
    expect(said).toHaveLength(1);
  });
});

/** Stays in its first stage: nobody answers on the queue of its host. */
const parked = (vm: string) => ({ ...inputOf(vm), transferQueue: 'transfer.nobody' });

describe('surefire up', () => {
  const running: ReturnType<typeof spawnCli>[] = [];
  afterEach(async () => {
    for (const process of running.splice(0)) {
      process.kill('SIGTERM');
      await process;
    }
  });

  async function start(config: string) {
    const up = spawnCli(['up', '--json', '--port', '0', '--ui-port', '0', '--config', config], { LAB_PASSWORD: 'x' });
    running.push(up);
    let out = '';
    up.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
    await waitFor(async () => {
      if (up.exitCode !== null) throw new Error(`up ended: ${(await up).stderr}`);
      return out.includes('\n');
    }, 90);
    return { up, ready: JSON.parse(out) as Ready };
  }

  it('runs server, Web UI and both workers, starts a killed worker again, stops all of it on Ctrl-C and goes on later', async () => {
    const own = makeFolder();
    mkdirSync(join(own.folder, 'run'), { recursive: true });
    const { up, ready } = await start(own.config);
    expect(ready.workers.map(({ role, queue }) => [role, queue])).toEqual([
      ['orchestrator', 'surefire'],
      ['transfer', 'transfer.test'],
    ]);
    expect((await fetch(ready.webUrl)).status).toBe(200);
    const { address, webUrl } = ready;
    const env = { SUREFIRE_TEMPORAL_ADDRESS: address, SUREFIRE_TEMPORAL_WEB_URL: webUrl, SUREFIRE_CONFIG: own.config };
    const client = await connectClient({ temporal: { address, webUrl, namespace: 'surefire' } });
    const { migrationId } = await client.start(parked('parked'));
    await client.close();
    let told = '';
    up.stderr.on('data', (chunk: Buffer) => (told += chunk.toString()));
    process.kill(ready.workers[1]!.pid, 'SIGKILL');
    await waitFor(async () => told.includes('The transfer worker ended by SIGKILL'), 60);

    up.kill('SIGINT');
    expect((await up).exitCode).toBe(0);
    for (const pid of [ready.temporalPid, ...ready.workers.map((worker) => worker.pid)]) expect(alive(pid)).toBe(false);
    expect((await runCli(['status'], env)).exitCode).toBe(10);

    const again = await start(own.config);
    const second = { ...env, SUREFIRE_TEMPORAL_ADDRESS: again.ready.address };
    const shown = await runCli(['status', migrationId, '--json'], second);
    expect(JSON.parse(shown.stdout)).toMatchObject({ vm: 'parked', execution: 'RUNNING' });
    own.remove();
  });

  it('starts a server again that was killed, under the same address, while the workers go on', async () => {
    const own = makeFolder();
    const { up, ready } = await start(own.config);
    const { address, webUrl, temporalPid } = ready;
    const client = await connectClient({ temporal: { address, webUrl, namespace: 'surefire' } });
    const { migrationId } = await client.start(parked('survivor'));
    let told = '';
    up.stderr.on('data', (chunk: Buffer) => (told += chunk.toString()));
    process.kill(temporalPid, 'SIGKILL');
    await waitFor(async () => told.includes(`The Temporal server on ${address} ended by itself.`), 60);
    const found = await waitFor(() => client.status(migrationId).catch(() => false as const), 60);
    expect(found).toMatchObject({ vm: 'survivor', execution: 'RUNNING' });
    await waitFor(async () => {
      const { workers } = await client.health('transfer.test');
      return Object.values(workers).every((identities) => identities.length > 0);
    }, 60);
    for (const { pid } of ready.workers) expect(alive(pid)).toBe(true);
    await client.close();

    // The database is not locked, nor the port taken, by anybody afterwards.
    up.kill('SIGINT');
    expect((await up).exitCode).toBe(0);
    const again = await startTemporal({
      ...{ program: findTemporal(), namespace: 'surefire', port: Number(address.split(':')[1]), uiPort: 0 },
      dbFile: join(own.folder, 'state', 'temporal.db'),
      logFile: join(own.folder, 'temporal.log'),
    });
    await again.stop();
    own.remove();
  });

  it('is restarted under somebody who watches, who then sees the end', async () => {
    const first = await startServer(place.folder);
    const port = Number(first.address.split(':')[1]);
    const env = { SUREFIRE_CONFIG: place.config, SUREFIRE_TEMPORAL_ADDRESS: first.address };
    const client = await connectClient({ temporal: { ...first, namespace: 'surefire' } });
    const { migrationId } = await client.start(inputOf('watched'));
    const following = spawnCli(['watch', migrationId], env);
    let told = '';
    following.stderr.on('data', (chunk: Buffer) => (told += chunk.toString()));
    following.stdout.on('data', (chunk: Buffer) => (told += chunk.toString()));
    await waitFor(async () => told.includes('Waiting for a worker'), 60);
    await first.stop();
    await waitFor(async () => told.includes('Temporal does not answer'), 60);
    const second = await startServer(place.folder, port);
    const worker = await startTinyWorker(second.address);
    await waitFor(
      () => client.send('confirmToolsRemoved', migrationId, { operator: 'tester', override: true }).catch(() => false),
      60,
    );
    expect((await following).exitCode).toBe(0);
    await client.close();
    await worker.stop();
    await second.stop();
  });

  it('leaves no process behind when it is killed hard', async () => {
    const own = makeFolder();
    const { up, ready } = await start(own.config);
    up.kill('SIGKILL');
    await up;
    const pids = [ready.temporalPid, ...ready.workers.map((worker) => worker.pid)];
    await waitFor(async () => pids.every((pid) => !alive(pid)), 60);
    expect(readFileSync(join(own.folder, 'state', 'worker-transfer.log'), 'utf8')).not.toBe('');
    own.remove();
  });
});
