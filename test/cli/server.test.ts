import { hostname } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Connection } from '@temporalio/client';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RunningTemporal } from '../../src/cli/index.js';
import { makeFolder, runCli, startServer, waitFor } from './harness.js';

const WORKER = fileURLToPath(new URL('../../dist/src/worker.js', import.meta.url));
const NAMESPACE = 'elsewhere';

const place = makeFolder(`temporal: { namespace: ${NAMESPACE} }`);
let server: RunningTemporal;

beforeAll(async () => {
  server = await startServer(place.folder);
});

afterAll(async () => {
  await server?.stop();
  place.remove();
});

const env = () => ({ SUREFIRE_CONFIG: place.config, SUREFIRE_TEMPORAL_ADDRESS: server.address });
const startWorker = (role: string, more: Record<string, string> = {}) =>
  execa(process.execPath, [WORKER, '--role', role], { env: { ...env(), ...more }, reject: false, timeout: 250_000 });

async function connected<T>(act: (connection: Connection) => Promise<T>): Promise<T> {
  const connection = await Connection.connect({ address: server.address });
  return act(connection).finally(() => connection.close());
}

// In order: the namespace is not there at first.
describe('a Temporal server that others run', () => {
  it('is told apart from one that is ready: a worker ends at once and says what is missing', async () => {
    for (const { exitCode, stderr } of [
      await startWorker('orchestrator'),
      await runCli(['health', 'transfer'], env()),
    ]) {
      expect(exitCode).toBeGreaterThan(0);
      expect(stderr).toContain(`Temporal at ${server.address} has no namespace "${NAMESPACE}".\nNext: `);
    }
  });

  it('is made ready by `surefire prepare`, as often as one likes', async () => {
    for (let time = 0; time < 2; time++) {
      const { exitCode, stdout, stderr } = await runCli(['prepare', '--json'], env());
      expect(exitCode, stderr).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject({ namespace: NAMESPACE, leastRetentionDays: 90 });
    }
  });

  it('keeps a retention that is longer than ours, and gets at least ours', async () => {
    const daysAfter = (days: number) =>
      connected(async ({ workflowService }) => {
        const workflowExecutionRetentionTtl = { seconds: { low: days * 86_400, high: 0, unsigned: false } as never };
        await workflowService.updateNamespace({ namespace: NAMESPACE, config: { workflowExecutionRetentionTtl } });
        expect((await runCli(['prepare'], env())).exitCode).toBe(0);
        const { config } = await workflowService.describeNamespace({ namespace: NAMESPACE });
        return Number(config?.workflowExecutionRetentionTtl?.seconds) / 86_400;
      });
    expect([await daysAfter(400), await daysAfter(2)]).toEqual([400, 90]);
  });

  it('is refused by a worker when it lacks a search attribute, which prepare brings back', async () => {
    await connected(({ operatorService }) =>
      operatorService.removeSearchAttributes({ namespace: NAMESPACE, searchAttributes: ['DiskGiB'] }),
    );
    const { exitCode, stderr } = await startWorker('orchestrator');
    expect(exitCode).toBe(1);
    expect(stderr).toContain(
      `Namespace ${NAMESPACE} of Temporal at ${server.address} lacks search attributes: DiskGiB.`,
    );
    expect(stderr).toContain('Next: run `surefire prepare`');
    expect((await runCli(['prepare'], env())).exitCode).toBe(0);
  });

  it('says whether the worker of this host works: once it has started, no longer when it has stopped', async () => {
    const worker = startWorker('transfer');
    const healthy = await waitFor(async () => {
      const { exitCode, stdout } = await runCli(['health', 'transfer'], env());
      return exitCode === 0 && stdout;
    }, 60);
    expect(healthy).toBe(`transfer: ${worker.pid}@${hostname()} on queue transfer.test.`);
    expect((await runCli(['health', 'orchestrator'], env())).stderr).toContain(
      `No orchestrator worker of host ${hostname()} takes work from the queue "surefire".`,
    );
    worker.kill('SIGTERM');
    expect((await worker).exitCode).toBe(0);
    const after = await runCli(['health', 'transfer'], env());
    expect(after.exitCode).toBe(10);
    expect(after.stderr).toContain('No transfer worker of host');
  });

  it('that is not there at all ends a worker with a sentence', async () => {
    const { exitCode, stderr } = await startWorker('transfer', { SUREFIRE_TEMPORAL_ADDRESS: '127.0.0.1:1' });
    expect(exitCode).toBe(1);
    expect(stderr).toContain('Temporal at 127.0.0.1:1 cannot be reached.');
  });
});
