import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { endpointOptions, loadConfig, readSecret } from '../../src/config.js';
import { failureTypeOf } from '../../src/shared/index.js';

const GOOD = `
vcenters:
  vcenter-a: { url: https://vc.example.com/sdk, username: surefire, passwordFile: vc.secret }
pools:
  pool-1: { url: https://10.0.0.1, username: root, passwordEnv: POOL_PASSWORD, sr: ssd, networks: { default: lan } }
`;

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'surefire-config-'));
});

afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

function write(name: string, text: string, mode = 0o600): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

function refusal(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    expect(failureTypeOf(error)).toMatch(/^(ConfigInvalid|EndpointUnknown)$/);
    return (error as Error).message;
  }
  throw new Error('nothing was refused');
}

/** The mistakes, without the lines they are on. */
const withoutLines = (message: string) => message.split('\n').map((line) => line.replace(/^line \d+: /, ''));

describe('loadConfig', () => {
  it('fills in the defaults and makes paths absolute, counted from the file', () => {
    vi.stubEnv('XDG_STATE_HOME', '/var/state');
    const config = loadConfig(write('surefire.yaml', GOOD));
    expect(config.temporal).toMatchObject({
      address: '127.0.0.1:7233',
      namespace: 'surefire',
      webUrl: 'http://127.0.0.1:8233',
    });
    expect(config.vcenters['vcenter-a']?.passwordFile).toBe(join(folder, 'vc.secret'));
    expect(config.transfer).toMatchObject({
      queue: `transfer.${hostname()}`,
      slots: 2,
      segmentBytes: 4294967296,
      nbdkit: 'nbdkit',
      vddkTransports: ['nbdssl'],
      vddkCompression: 'fastlz',
    });
    expect(config.policy).toMatchObject({ transport: 'auto', snapshotHours: 72, downtimeBudgetSeconds: 300 });
    expect(config.state.dir).toBe('/var/state/surefire');
    expect(config.testNetwork.name).toBe('surefire test');
  });

  it('takes the address of Temporal from the environment when it is given there', () => {
    vi.stubEnv('SUREFIRE_TEMPORAL_ADDRESS', '127.0.0.1:9999');
    expect(loadConfig(write('surefire.yaml', GOOD)).temporal.address).toBe('127.0.0.1:9999');
  });

  it('takes TLS for Temporal with paths counted from the file, and certificate and key only together', () => {
    const tls = (text: string) => () =>
      loadConfig(write('surefire.yaml', `temporal: { tls: { ${text} } }${GOOD}`)).temporal.tls;
    expect(tls('caFile: ca.pem, serverName: temporal')()).toEqual({
      caFile: join(folder, 'ca.pem'),
      serverName: 'temporal',
    });
    expect(refusal(tls('certFile: us.pem'))).toContain('needs certFile and keyFile together');
  });

  it('finds the file by $SUREFIRE_CONFIG', () => {
    const path = write('elsewhere.yaml', GOOD);
    vi.stubEnv('SUREFIRE_CONFIG', path);
    expect(loadConfig().path).toBe(path);
  });

  it.each([
    [
      'an unknown key, with the likely one',
      'vcenters.v.usrname: unknown key; did you mean username?',
      'usrname: x, username: u',
    ],
    [
      'a password in the file, unseen',
      'vcenters.v.password: no secrets in this file; use passwordFile or passwordEnv',
      'username: u, password: hunter2',
    ],
    ['a missing user', 'vcenters.v.username: is missing', ''],
    [
      'a malformed pin',
      'vcenters.v.fingerprintSha256: must be a SHA-256 fingerprint, 32 bytes in hex (`surefire check` prints it)',
      'username: u, fingerprintSha256: AA:BB',
    ],
  ])('refuses %s', (_case, sentence, fields) => {
    const text = `vcenters: { v: { url: https://v, passwordEnv: P, ${fields} } }\npools: {}\n`;
    const message = refusal(() => loadConfig(write('surefire.yaml', text)));
    expect(withoutLines(message)).toContain(sentence);
    expect(message).not.toContain('hunter2');
  });

  it.each([
    ['transfer: { slots: 9 }', 'transfer.slots: must be <=4'],
    ['transfer: { slots: two }', 'transfer.slots: must be a number, not string'],
    ['transfer: { vddkTransports: [nbdssl, nfs] }', 'transfer.vddkTransports.1: must be nbdssl, nbd, hotadd or san'],
    ['transfer: { vddkTransports: [nbd, nbd] }', 'transfer.vddkTransports: names one twice'],
    ['transfer: { vddkTransports: [] }', 'transfer.vddkTransports: must be >=1 items'],
    ['transfer: { vddkCompression: gzip }', 'transfer.vddkCompression: must be fastlz, zlib, skipz or none'],
    ['transfer: { segmentByte: 1 }', 'transfer.segmentByte: unknown key; did you mean segmentBytes?'],
    ['policy: { transport: ftp }', 'policy.transport: must be auto, vddk or https, not "ftp"'],
    ['polici: {}', 'polici: unknown key; did you mean policy?'],
    ['hooks: { shutdown: { command: [] } }', 'hooks.shutdown.command: must be >=1 items'],
    ['testNetwork: { colour: red }', 'testNetwork.colour: unknown key; known here: name'],
  ])('refuses `%s`', (line, sentence) => {
    const message = refusal(() => loadConfig(write('surefire.yaml', `${GOOD}${line}\n`)));
    expect(withoutLines(message)).toContain(sentence);
  });

  it.each([
    'policy: { transport: nfs }',
    'policy: { transport: vsan-export }',
    'transfer: { nfsExport: "filer:/vms" }',
  ])('[S2] [S71] refuses a file share as transport: `%s`', (line) => {
    const message = refusal(() => loadConfig(write('surefire.yaml', `${GOOD}${line}\n`)));
    expect(message).toContain('there is no NFS or vSAN-export transport: disks are read through nbdkit');
  });

  it('[S147] lets no import in the pool be asked to last a day: 15 minutes are the most', () => {
    const asked = (seconds: number) => write('surefire.yaml', `${GOOD}transfer: { segmentSeconds: ${seconds} }\n`);
    expect(refusal(() => loadConfig(asked(86_400)))).toContain('transfer.segmentSeconds: must be <=900');
    expect(loadConfig(asked(900)).transfer.segmentSeconds).toBe(900);
  });

  it('names the line of each mistake, and of what is missing the line of its place', () => {
    const text = `vcenters:
  v:
    url: https://v
    usrname: x
    passwordEnv: P
pools: {}
transfer:
  slots: 9
hooks: { shutdown: { command: [1] } }
`;
    expect(
      refusal(() => loadConfig(write('surefire.yaml', text)))
        .split('\n')
        .slice(1, -1),
    ).toEqual([
      'line 2: vcenters.v.username: is missing',
      'line 4: vcenters.v.usrname: unknown key; did you mean username?',
      'line 8: transfer.slots: must be <=4',
      'line 9: hooks.shutdown.command.0: must be a string, not number',
    ]);
  });

  it('names every mistake at once, and the file', () => {
    const path = write('surefire.yaml', `${GOOD}polici: {}\ntransfer: { slots: 1 }\n`);
    expect(refusal(() => loadConfig(path))).toContain(`Configuration ${path} has 2 mistakes.`);
  });

  it('says where the YAML itself is broken', () => {
    expect(refusal(() => loadConfig(write('surefire.yaml', 'vcenters: {\n')))).toMatch(/at line 2/);
  });

  it('says which places were looked at when there is no file', () => {
    expect(refusal(() => loadConfig(join(folder, 'none.yaml')))).toContain('cannot be read (ENOENT)');
  });

  it('accepts the example that the documentation shows', () => {
    expect(Object.keys(loadConfig('docs/surefire.yaml.example').pools)).toEqual(['pool-1']);
  });
});

describe('secrets', () => {
  const load = () => loadConfig(write('surefire.yaml', GOOD));

  it('are read from a file, without its line end', () => {
    write('vc.secret', 'two words \n');
    expect(endpointOptions(load(), 'vcenters', 'vcenter-a').password).toBe('two words ');
  });

  it('are read from the environment', () => {
    vi.stubEnv('POOL_PASSWORD', 'p');
    expect(endpointOptions(load(), 'pools', 'pool-1')).toEqual({
      url: 'https://10.0.0.1',
      username: 'root',
      password: 'p',
    });
  });

  it('warn when others can read the file', () => {
    const lines: string[] = [];
    const passwordFile = write('open.secret', 'p', 0o644);
    expect(readSecret({ url: 'https://v', passwordFile }, (line) => lines.push(line))).toBe('p');
    expect(lines).toEqual([
      `Warning: Password file ${passwordFile} can be read by other users. Next: chmod 600 ${passwordFile}`,
    ]);
  });

  it.each([
    ['missing file', {}, 'does not exist'],
    ['empty file', { file: '\n' }, 'is empty'],
  ])('are refused with the place: %s', (_case, { file }: { file?: string }, reason) => {
    if (file !== undefined) write('vc.secret', file);
    expect(refusal(() => endpointOptions(load(), 'vcenters', 'vcenter-a'))).toContain(
      `vc.secret for https://vc.example.com/sdk ${reason}.`,
    );
  });

  it("are read from systemd's credentials where the service has them", () => {
    const { passwordFile } = { passwordFile: join(folder, 'secrets', 'pool-1') };
    vi.stubEnv('CREDENTIALS_DIRECTORY', folder);
    expect(refusal(() => readSecret({ url: 'https://x', passwordFile }))).toContain('does not exist');
    write('secrets_pool-1', 'hunter2\n');
    expect(readSecret({ url: 'https://x', passwordFile })).toBe('hunter2');
  });

  it('are refused when the variable is not set', () => {
    expect(refusal(() => endpointOptions(load(), 'pools', 'pool-1'))).toContain(
      'Environment variable POOL_PASSWORD for https://10.0.0.1 is not set.',
    );
  });

  it('are asked only of endpoints that exist', () => {
    expect(refusal(() => endpointOptions(load(), 'pools', 'pool-9'))).toContain('No pool is called "pool-9".');
  });
});
