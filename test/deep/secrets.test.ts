import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cachePath } from '../../lab/cache.js';
import { runCli } from '../cli/harness.js';
import { Bench, plain, type Run } from '../e2e/harness.js';
import { placesOf, secretsOf, textOf } from '../e2e/secret-scan.js';
import { cliOf } from '../e2e/watching.js';

let folder: string;
let bench: Bench;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'surefire-telltale-'));
  // An nbdkit that tells its password the first times it is asked to serve: as often as a copy tries to connect in a row.
  const nbdkit = (await readFile(cachePath('nbdkit.path'), 'utf8')).trim();
  const telltale = `#!/bin/sh
case " $* " in *" -U "*)
  for time in 1 2 3 4 5 6; do
    if mkdir "${folder}/told-$time" 2>/dev/null; then
      echo "nbdkit: error: login with $(cat <&3) failed: the server refused connection" >&2
      exit 1
    fi
  done
esac
exec '${nbdkit}' "$@"
`;
  await writeFile(join(folder, 'nbdkit'), telltale);
  await chmod(join(folder, 'nbdkit'), 0o755);
  process.env['PATH'] = `${folder}${delimiter}${process.env['PATH']}`;
  // A hook that fails, and tells what it was given by its operator.
  const hook = 'echo "cannot reach the guest with $(cat "$0"), password=hunter2" >&2; exit 3';
  bench = await Bench.start([{ name: 'first', firmware: 'bios' }, plain('second')], (lab) => [
    'sh',
    '-c',
    hook,
    join(lab.description.stateDir, '..', 'secrets', 'vcenter'),
  ]);
});

afterAll(async () => {
  await bench?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Sessions that were opened since: those of the worker that was the only one to log in meanwhile. */
async function sessionsSince(before: string[] = []): Promise<string[]> {
  const all = [...(await bench.vsphere.sessions()), ...(await bench.pool.sessions())];
  return all.filter((session) => !before.includes(session));
}

/** All that the server has of a migration: its history with the payloads, and its pending activities. */
async function historyOf(run: Run): Promise<string> {
  const handle = bench.temporal.workflow.getHandle(run.id);
  return `${textOf(await handle.fetchHistory())}\n${textOf((await handle.describe()).raw)}`;
}

async function expectNoSecret(what: string, text: string): Promise<void> {
  for (const [index, secret] of [...(await secretsOf(bench)), 'hunter2'].entries())
    expect(placesOf(secret, new Map([[what, text]])), `secret ${index}`).toEqual([]);
}

describe('a failure that quotes a secret', () => {
  it('[S18] is redacted before it reaches the history, from whichever adapter it comes', async () => {
    const { description } = bench.lab;
    const password = description.vsphere.password;
    const first = await bench.inputFor('first', { policy: { transport: 'vddk', shutdownHook: true } });
    const strangers = await sessionsSince();
    const run = await bench.migrate('first', { policy: first.policy });
    await run.reaches('tools-removal');
    const [cookie = '', session = ''] = await sessionsSince(strangers);
    expect(session).toMatch(/^OpaqueRef:/);
    await run.removeTools();

    // vSphere: a task that fails with what it was asked; XAPI: an error with the session in its parameters.
    const quoted = `vmware_soap_session of ${cookie}, ${password}`;
    await bench.vsphere.addRule({
      method: 'CreateSnapshot_Task',
      fault: 'InvalidArgument',
      detail: { invalidProperty: quoted },
    });
    const params = ['root', description.pools[0]?.password ?? '', session];
    await bench.pool.fault({ kind: 'call', method: 'VM.create', code: 'INTERNAL_ERROR', params });
    // Then nbdkit at the first copy.
    await run.say('confirmToolsRemoved', {});
    await run.reaches('verification');
    const known = [...strangers, cookie, session];
    const [, transferSession = ''] = await sessionsSince(known);
    expect(transferSession).toMatch(/^OpaqueRef:/);

    // An import that is answered with its request: in the second migration.
    const code = `SR_BACKEND_FAILURE_46 PUT /import_raw_vdi?session_id=${transferSession}&vdi=x ${transferSession}`;
    await bench.pool.fault({ kind: 'attach', code });
    const other = await bench.migrate('second', { policy: { transport: 'https' } });
    await other.reaches('verification');

    await run.say('acceptTestCopy', {});
    await run.reaches('cutover-approval');
    await run.say('approveCutover', {});
    const { record } = await run.records('The shutdown hook failed');

    const told = { first: await historyOf(run), second: await historyOf(other) };
    // Each of them is there, and says everything but the secret.
    const words = [
      ['first', 'InvalidArgument, invalidProperty vmware_soap_session of ***, ***'],
      ['first', 'INTERNAL_ERROR (root, ***, ***)'],
      ['first', 'login with *** failed: the server refused connection'],
      ['second', 'PUT /import_raw_vdi?session_id=***&vdi=x ***'],
    ] as const;
    // Not `toContain`, which would print a history of a megabyte.
    for (const [vm, text] of words) expect(told[vm].includes(text), text).toBe(true);
    expect(record.map(({ text }) => text)).toContainEqual(
      expect.stringContaining('sh ended with 3; it said: cannot reach the guest with ***, password=***'),
    );
    for (const [vm, text] of Object.entries(told)) await expectNoSecret(vm, text);
    for (const role of ['orchestrator', 'transfer']) {
      const log = await readFile(join(bench.config.state.dir, `worker-${role}.log`), 'utf8');
      expect(log, 'the failure of an activity is logged').toContain('***');
      await expectNoSecret(role, log);
    }
    await Promise.all([run.cancel(), other.cancel()]);
    await Promise.all([run.ends(), other.ends()]);
  });

  it('is redacted where the command line tells it, also with --debug', async () => {
    const detail = { invalidProperty: `password of ${bench.lab.description.vsphere.password}` };
    for (const command of [['inventory'], ['inventory', '--debug'], ['check', '--json']]) {
      await bench.vsphere.addRule({ method: 'Login', fault: 'InvalidArgument', detail });
      const { exitCode, stdout, stderr } = await runCli([...command, '--config', bench.config.path], cliOf(bench));
      expect(exitCode).toBe(1);
      expect(`${stdout}${stderr}`).toContain('invalidProperty password of ***');
      await expectNoSecret(command.join(' '), `${stdout}${stderr}`);
      await bench.vsphere.clearRules();
    }
  });
});
