import { readFile, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LAB_ENDPOINTS } from '../../lab/demo/config.js';
import { Bench, plain } from '../e2e/harness.js';

// What only a whole run shows: the workers' own refusals, in the first stage of a workflow.

let bench: Bench;
beforeAll(async () => {
  bench = await Bench.start([plain('locked-out'), plain('nowhere')]);
});
afterAll(() => bench?.stop());

const loginCount = async () => (await bench.vsphere.calls()).filter(({ method }) => method === 'Login').length;

/** The end of a run that was refused, and that it left no trace on either side. */
async function refusedRun(vm: string, input: Awaited<ReturnType<Bench['inputFor']>>) {
  // Looked at past our own adapter, whose password may be the wrong one.
  const before = await bench.vsphere.vm(vm);
  const { migrationId } = await bench.client.start(input);
  const { failure, report } = await bench.client.result(migrationId);
  expect(failure?.type).toBe('PreflightFailed');
  expect(report?.stages.map(({ stage }) => stage)).toEqual(['preflight']);
  expect(await bench.vsphere.vm(vm)).toEqual(before);
  expect(await bench.onPool(vm)).toEqual([]);
  return { message: failure?.message ?? '', findings: report?.findings ?? [] };
}

describe('a run is refused in its first stage', () => {
  it('[S31] [S56] over a wrong password, tried once by all workers and all runs together', async () => {
    const input = await bench.inputFor('locked-out');
    const file = bench.config.vcenters[LAB_ENDPOINTS.vcenter]?.passwordFile ?? '';
    const right = await readFile(file, 'utf8');
    await writeFile(file, 'guess\n');
    const before = await loginCount();
    const first = await refusedRun('locked-out', input);
    expect(first.message).toMatch(/^endpoint vCenter lab: 127\.0\.0\.1 refuses the login of /m);
    const second = await refusedRun('locked-out', input);
    expect(second.message).toMatch(/^endpoint vCenter lab: 127\.0\.0\.1 refuses the login of /m);
    expect((await loginCount()) - before).toBe(1);

    // The right one is used at once, by the same workers.
    await writeFile(file, right);
    const run = await bench.migrate('locked-out', { acknowledge: false });
    await run.reaches('warnings');
    await run.cancel();
    await run.ends();
  });

  it('[S58] over an ESXi host whose name the transfer host cannot resolve, and over its closed port 902', async () => {
    const input = await bench.inputFor('nowhere', { policy: { transport: 'vddk' } });
    await bench.vsphere.setProperty('127.0.0.1', 'name', 'esx9.invalid');
    const unknown = await refusedRun('nowhere', input);
    expect(unknown.findings.find(({ code }) => code === 'N6')).toMatchObject({
      severity: 'error',
      object: 'ESXi host esx9.invalid',
    });
    // Nothing listens on the second address of this machine.
    await bench.vsphere.setProperty('esx9.invalid', 'name', '127.0.0.2');
    const closed = await refusedRun('nowhere', input);
    const port = bench.config.vcenters[LAB_ENDPOINTS.vcenter]?.nfcPort;
    expect(closed.message).toContain(`127.0.0.2:${port} cannot be reached from `);
    await bench.vsphere.setProperty('127.0.0.2', 'name', '127.0.0.1');
  });
});
