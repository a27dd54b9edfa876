import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestPool, VM_FIELDS } from '../lab/xcpng-client.js';

const CLI = fileURLToPath(new URL('../../node_modules/.bin/xen-api', import.meta.url));

let pool: TestPool;
let certificateFile: string;

beforeAll(async () => {
  pool = await TestPool.start();
  const { stateDir } = pool.server.pool;
  const certificates = ['master', 'slave'].map(async (host) => {
    const { cert } = JSON.parse(await readFile(join(stateDir, `${host}.pem.json`), 'utf8')) as { cert: string };
    return cert;
  });
  certificateFile = join(stateDir, 'both.pem');
  await writeFile(certificateFile, (await Promise.all(certificates)).join('\n'));
});
afterAll(async () => {
  await pool.stop();
});

/** Types one line into the `xen-api` CLI, the certificate verified, and gives what it printed until it ended. */
async function type(line: string, url: string, ...options: string[]): Promise<string> {
  const { username, password } = pool.server.address;
  const child = execa(CLI, [...options, url, username, password], {
    stdin: 'pipe',
    env: { NODE_EXTRA_CA_CERTS: certificateFile },
  });
  // Left open: the end of its input would end the CLI before the answers.
  child.stdin.write(`${line}\n`);
  return (await child).stdout;
}

/** The JSON after `marker` in the CLI's output. */
function printed(output: string, marker: string): unknown {
  const line = output.split('\n').find((text) => text.includes(`${marker} `));
  return JSON.parse(line?.slice(line.indexOf(`${marker} `) + marker.length + 1) ?? 'null');
}

describe.each(['json-rpc', 'xml-rpc'])('the xen-api CLI over %s', (transport) => {
  it('connects, collects all objects by events, and follows changes, tasks and errors', async () => {
    const script = `(async () => {
      await xapi.objectsFetched;
      const all = Object.values(xapi.objects.all);
      const sr = all.find(o => o.$type === 'SR' && o.name_label === 'Local thin');
      const say = (name, value) => console.log('@' + name + ' ' + JSON.stringify(value));
      say('pool', xapi.pool.name_label);
      say('types', [...new Set(all.map(o => o.$type))].sort());
      const vdi = await xapi.callAsync('VDI.create', { SR: sr.$ref, virtual_size: 3145728, type: 'user', sharable: false, read_only: false, other_config: {} });
      await xapi.barrier(vdi);
      say('size', Number(xapi.getObject(vdi).virtual_size));
      await xapi.getObject(vdi).update_other_config('surefire:self', 'x');
      await xapi.barrier(vdi);
      say('config', xapi.getObject(vdi).other_config);
      say('error', await xapi.call('VDI.resize', vdi, 1048576).catch(e => [e.code, e.params.length]));
      say('task', await xapi.callAsync('VM.create', ${JSON.stringify(VM_FIELDS)}).then(ref => ref.slice(0, 10)));
      say('failed', await xapi.callAsync('VM.destroy', 'OpaqueRef:x').catch(e => e.code));
      process.exit();
    })()`;
    const output = await type(script.replace(/\n\s*/g, ' '), pool.server.address.url, '--transport', transport);
    expect(printed(output, '@pool')).toBe('lab');
    expect(printed(output, '@types')).toEqual(
      expect.arrayContaining(['PBD', 'PIF', 'SM', 'SR', 'VM', 'host', 'network', 'pool']),
    );
    expect(printed(output, '@size')).toBe(4 * 1024 ** 2);
    expect(printed(output, '@config')).toEqual({ 'surefire:self': 'x' });
    expect(printed(output, '@error')).toEqual(['VDI_TOO_SMALL', 2]);
    expect(printed(output, '@task')).toBe('OpaqueRef:');
    expect(printed(output, '@failed')).toBe('HANDLE_INVALID');
  });
});

it('the xen-api CLI finds the master when it is given the other host', async () => {
  const line = `xapi.objectsFetched.then(() => { console.log('@pool ' + JSON.stringify(xapi.pool.name_label)); process.exit(); })`;
  expect(printed(await type(line, pool.server.address.slaveUrl), '@pool')).toBe('lab');
});
