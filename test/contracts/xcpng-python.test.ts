import { X509Certificate } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestPool } from '../lab/xcpng-client.js';
import { pythonWith } from './python.js';

let pool: TestPool;
let python: string;
let certificateFile: string;

beforeAll(async () => {
  python = await pythonWith('XenAPI==26.21.1');
  pool = await TestPool.start();
  const { stateDir } = pool.server.pool;
  const { cert } = JSON.parse(await readFile(join(stateDir, 'master.pem.json'), 'utf8')) as { cert: string };
  expect(new X509Certificate(cert).fingerprint256).toBe(pool.server.address.fingerprintSha256);
  certificateFile = join(stateDir, 'master.pem');
  await writeFile(certificateFile, cert);
});
afterAll(async () => {
  await pool.stop();
});

const PRELUDE = `
import json, sys, XenAPI
url, user = sys.argv[1:3]
session = XenAPI.Session(url)
session.xenapi.login_with_password(user, sys.stdin.readline().strip(), '2.21', 'contract test')
x = session.xenapi
def failure(call):
    try:
        call()
    except XenAPI.Failure as error:
        return error.details
def wait(task):
    import time
    while x.task.get_status(task) == 'pending':
        time.sleep(0.05)
    return x.task.get_record(task)
`;

/** Runs a script in which `x` is a logged-in session of Python's XenAPI, over XML-RPC with a verified certificate. */
async function run<T>(script: string): Promise<T> {
  const { url, username, password } = pool.server.address;
  const { stdout } = await execa(python, ['-c', PRELUDE + script, url, username], {
    input: `${password}\n`,
    env: { SSL_CERT_FILE: certificateFile },
  });
  return JSON.parse(stdout) as T;
}

describe("Python's XenAPI over XML-RPC", () => {
  it('logs in, reads records with their types, and logs out', async () => {
    const seen = await run<Record<string, unknown>>(`
host = x.host.get_record(x.pool.get_record(x.pool.get_all()[0])['master'])
metrics = x.VM_metrics.get_record(x.VM.get_record(x.VM.get_by_name_label('Control domain on host: lab-master')[0])['metrics'])
sr = x.SR.get_by_name_label('Local thin')[0]
print(json.dumps({
  'brand': host['software_version']['product_brand'],
  'enabled': host['enabled'],
  'size': x.SR.get_physical_size(sr),
  'started': str(metrics['start_time']),
  'classes': len([m for m in session.system.listMethods() if m.endswith('.get_all_records')]),
}))
session.logout()
`);
    expect(seen).toMatchObject({ brand: 'XCP-ng', enabled: true, size: String(8192 * 1024 ** 3) });
    expect(seen['started']).toMatch(/^\d{8}T\d\d:\d\d:\d\dZ$/);
    expect(seen['classes']).toBeGreaterThan(20);
  });

  it('creates, changes and destroys objects, and gets real errors', async () => {
    const seen = await run<Record<string, unknown>>(`
sr = x.SR.get_by_name_label('Local thin')[0]
vdi = x.VDI.create({'SR': sr, 'virtual_size': str(5 * 1024 ** 2), 'type': 'user', 'sharable': False, 'read_only': False,
                    'other_config': {'a': '<&>'}, 'name_label': 'é ☃'})
x.VDI.set_name_description(vdi, 'two words')
x.VDI.add_to_other_config(vdi, 'k', 'v')
record = x.VDI.get_record(vdi)
snapshot = wait(x.Async.VDI.snapshot(vdi, {}))
out = {
  'record': {k: record[k] for k in ('virtual_size', 'name_label', 'name_description', 'other_config', 'managed')},
  'snapshot': snapshot['result'], 'progress': snapshot['progress'],
  'twice': failure(lambda: x.VDI.add_to_other_config(vdi, 'k', 'w')),
  'unknown': failure(lambda: x.VDI.get_record('OpaqueRef:none')),
  'count': failure(lambda: x.VDI.get_record()),
}
x.VDI.destroy(vdi)
print(json.dumps(out))
`);
    expect(seen['record']).toEqual({
      virtual_size: String(6 * 1024 ** 2),
      name_label: 'é ☃',
      name_description: 'two words',
      other_config: { a: '<&>', k: 'v' },
      managed: true,
    });
    expect(seen['snapshot']).toMatch(/^<value>OpaqueRef:/);
    expect(seen['progress']).toBe(1);
    expect(seen['twice']).toEqual(['MAP_DUPLICATE_KEY', 'VDI', 'other_config', expect.any(String), 'k']);
    expect(seen['unknown']).toEqual(['HANDLE_INVALID', 'VDI', 'OpaqueRef:none']);
    expect(seen['count']).toEqual(['MESSAGE_PARAMETER_COUNT_MISMATCH', 'VDI.get_record', '1', '0']);
  });

  it('follows events', async () => {
    const seen = await run<Record<string, unknown>>(`
first = x.event_from(['network'], '', 1.0)
network = x.network.create({'name_label': 'from python', 'other_config': {}})
batch = x.event_from(['network'], first['token'], 5.0)
x.network.destroy(network)
last = x.event_from(['network'], batch['token'], 5.0)
print(json.dumps([[e['operation'], e['ref'] == network] for e in batch['events'] + last['events']]))
`);
    expect(seen).toEqual([
      ['add', true],
      ['del', true],
    ]);
  });
});
