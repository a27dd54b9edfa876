import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { VsphereAdmin } from '../../lab/vsphere/admin.js';
import type { VsphereVm } from '../../lab/vsphere/scenario.js';
import { startVsphere, type RunningVsphere } from '../../lab/vsphere/start.js';
import { XcpngAdmin } from '../../lab/xcpng/admin.js';
import { startXcpng, type XcpngLab } from '../../lab/xcpng/start.js';
import type { RunningTemporal } from '../../src/cli/index.js';
import { createVsphere } from '../../src/vsphere/index.js';
import { startIdleTransferWorker, startTinyWorker } from '../client/tiny-worker.js';
import { runCli, startServer } from './harness.js';

const MIB = 1024 ** 2;
const folder = mkdtempSync(join(tmpdir(), 'surefire-refusals-'));
const config = join(folder, 'surefire.yaml');
let vsphere: RunningVsphere;
let pool: XcpngLab;
let temporal: RunningTemporal;
let workers: { stop(): Promise<void> }[] = [];
let source: VsphereAdmin;
let target: XcpngAdmin;
let env: Record<string, string>;

const disk = { capacityBytes: 8 * MIB };
const vm = (name: string, changes: Partial<VsphereVm> = {}): VsphereVm => ({ name, disks: [disk], ...changes });
const VMS = [
  vm('good'),
  vm('rdm', { disks: [{ ...disk, rdm: 'physicalMode' }] }),
  vm('rdm-virtual', { disks: [{ ...disk, rdm: 'virtualMode' }] }),
  vm('independent', { disks: [{ ...disk, mode: 'independent_persistent' }] }),
  vm('ciphered', { disks: [{ ...disk, encrypted: true }] }),
  vm('cluster', { disks: [{ ...disk, multiWriter: true }] }),
  vm('wide', { nics: Array.from({ length: 8 }, () => ({})) }),
  vm('large', { disks: [{ capacityBytes: 60 * 1024 * MIB }] }),
  vm('under-way'),
  vm('done'),
];

beforeAll(async () => {
  [vsphere, pool, temporal] = await Promise.all([
    startVsphere({ stateDir: join(folder, 'vsphere'), scenario: { vms: VMS } }),
    startXcpng({ stateDir: join(folder, 'xcpng') }),
    startServer(folder),
  ]);
  source = new VsphereAdmin(vsphere.adminUrl);
  target = new XcpngAdmin(pool.adminUrl);
  workers = await Promise.all([
    startTinyWorker(temporal.address),
    startIdleTransferWorker(temporal.address, 'transfer.test'),
  ]);
  env = {
    SUREFIRE_CONFIG: config,
    SUREFIRE_TEMPORAL_ADDRESS: temporal.address,
    SUREFIRE_TEMPORAL_WEB_URL: temporal.webUrl,
  };
  configure();
  expect((await runCli(['migrate', 'under-way', '--transport', 'https'], env)).exitCode).toBe(0);
});

afterAll(async () => {
  await Promise.all(workers.map((worker) => worker.stop()));
  await Promise.all([vsphere?.stop(), pool?.stop(), temporal?.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

beforeEach(() => configure());

interface Wrong {
  vcenterPassword?: string;
  poolPassword?: string;
  vcenterPin?: string;
  queue?: string;
  nbdkit?: string;
  /** A second name for the same vCenter. */
  twice?: boolean;
}

/** The configuration as it should be, but for what is wrong in it. */
function configure(wrong: Wrong = {}): void {
  const secret = (name: string, text: string) => {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    return `passwordFile: ${name}`;
  };
  const pin = wrong.vcenterPin ?? vsphere.fingerprintSha256;
  const password = secret('vc.secret', wrong.vcenterPassword ?? vsphere.password);
  const vcenter = `{ url: "${vsphere.url}", username: "${vsphere.username}", ${password}, fingerprintSha256: "${pin}" }`;
  writeFileSync(
    config,
    `vcenters:
  vc: ${vcenter}
${wrong.twice ? `  other: ${vcenter}\n` : ''}pools:
  p:
    url: "${pool.url}"
    username: "${pool.username}"
    ${secret('pool.secret', wrong.poolPassword ?? pool.password)}
    fingerprintSha256: "${pool.fingerprintSha256}"
    sr: Local thin
    networks: { default: Pool-wide network associated with eth0 }
transfer: { queue: ${wrong.queue ?? 'transfer.test'}, runDir: run, nbdkit: ${wrong.nbdkit ?? 'nbdkit'} }
state: { dir: state }
`,
  );
}

const READS_VSPHERE =
  /^(RetrieveServiceContent|Login|Logout|CurrentTime|CreateContainerView|DestroyView|(Continue)?RetrievePropertiesEx|HasPrivilegeOnEntity)$/;
// `SR.scan` makes the pool look at its storage, so that the free space it tells is of now.
const READS_XAPI = /^(session\.\w+|system\.\w+|\w+\.get_\w+|SR\.scan)$/;

/** What either side was asked to change since it was last looked at. */
async function writes(): Promise<string[]> {
  const ofSource = (await source.calls()).map(({ method }) => method).filter((method) => !READS_VSPHERE.test(method));
  const ofTarget = (await target.calls()).map(({ method }) => method).filter((method) => !READS_XAPI.test(method));
  return [...ofSource, ...ofTarget];
}

/** Runs a command that must be refused: said in three parts, as JSON too, with nothing changed on either side. */
async function refused(args: string[], more: Record<string, string> = {}) {
  const { exitCode, stdout, stderr } = await runCli([...args, '--json'], { ...env, ...more });
  const document = JSON.parse(stdout) as { error: { type: string; message: string }; exitCode: number };
  expect(document.exitCode).toBe(exitCode);
  expect(stderr).toBe(document.error.message);
  expect(stderr.split('\n').at(-1)).toMatch(/^Next: /);
  expect(await writes()).toEqual([]);
  return { exitCode, type: document.error.type, message: stderr, first: stderr.split('\n')[0] };
}

/** How often somebody tried to log in. */
const logins = async (side: 'source' | 'target') =>
  side === 'source'
    ? (await source.calls()).filter(({ method }) => method === 'Login').length
    : (await target.calls()).filter(({ method }) => method === 'session.login_with_password').length;

describe('what is refused before anything is written', () => {
  it.each<[what: string, args: string[], exit: number, type: string, says: RegExp, wrong?: Wrong]>([
    ['a VM that is not there', ['migrate', 'nobody'], 11, 'SourceNotFound', /^No VM is called "nobody"\./],
    [
      'a name that fits two',
      ['migrate', 'good'],
      2,
      'UsageInvalid',
      /^VM "good" matches 2 machines: /,
      { twice: true },
    ],
    ['an unknown flag', ['migrate', 'good', '--colour'], 2, 'UsageInvalid', /unknown option '--colour'/],
    [
      'a changed certificate',
      ['migrate', 'good'],
      1,
      'CertificateChanged',
      /presents another certificate than the pinned one\./,
      { vcenterPin: 'AA:'.repeat(31) + 'AA' },
    ],
    ['a VM under way', ['migrate', 'under-way'], 12, 'MigrationRunning', /^under-way is being migrated already/],
    [
      'a queue without a worker',
      ['migrate', 'good'],
      10,
      'TemporalUnreachable',
      /^The migration of good was not started: no worker polls the queue "transfer\.elsewhere"\./,
      { queue: 'transfer.elsewhere' },
    ],
    ['[S69] a physical RDM', ['migrate', 'rdm'], 13, 'PreflightFailed', /^D1 rdm: Hard disk 1 .*physical/m],
    ['[S67] a virtual RDM', ['migrate', 'rdm-virtual'], 13, 'PreflightFailed', /^D2 rdm-virtual: .*virtual/m],
    ['[S68] an independent disk', ['migrate', 'independent'], 13, 'PreflightFailed', /^D3 independent: /m],
    ['[S70] an encrypted disk', ['migrate', 'ciphered'], 13, 'PreflightFailed', /^D7 ciphered: .*encrypted/m],
    ['a shared disk', ['migrate', 'cluster'], 13, 'PreflightFailed', /^D5 cluster: /m],
    ['[S73] too many cards', ['migrate', 'wide'], 13, 'PreflightFailed', /^T4 wide: It has 8 network cards\./m],
    [
      'an SR that is too small',
      ['migrate', 'large', '--sr', 'Local thick'],
      13,
      'PreflightFailed',
      /^T2 large: SR "Local thick" has .* free\./m,
    ],
  ])('%s', async (_what, args, exit, type, says, wrong) => {
    configure(wrong);
    await source.clearCalls();
    const { exitCode, type: seen, message } = await refused(args);
    expect(message).toMatch(says);
    expect(seen).toBe(type);
    expect(exitCode).toBe(exit);
  });

  it('Temporal that does not answer', async () => {
    const { exitCode, first } = await refused(['migrate', 'good'], { SUREFIRE_TEMPORAL_ADDRESS: '127.0.0.1:9' });
    expect(first).toBe('Temporal at 127.0.0.1:9 cannot be reached.');
    expect(exitCode).toBe(10);
  });

  it('a configuration that is wrong, naming line and key', async () => {
    writeFileSync(config, 'vcenters: {}\npools: {}\ntransfer:\n  slotz: 2\n');
    const { exitCode, message } = await refused(['status']);
    expect(message).toContain('line 4: transfer.slotz: unknown key; did you mean slots?');
    expect(exitCode).toBe(2);
  });

  it('a VM that was migrated before', async () => {
    const { url, username, password, fingerprintSha256 } = vsphere;
    const client = createVsphere({ url, username, password, fingerprintSha256 });
    await client.setMark({ vmMoRef: (await source.vm('done')).moRef, mark: 'done in May' });
    await client.close();
    await source.clearCalls();
    const { exitCode, message } = await refused(['migrate', 'done']);
    expect(message).toMatch(/^V18 done: A migration of it has finished before/m);
    expect(exitCode).toBe(13);
  });

  it.each([
    ['missing', '/nonexistent/nbdkit', /is not installed/],
    ['old', 'old-nbdkit', /nbdkit 1\.30\.0 is older than 1\.32\.5/],
  ])('[S35] [S36] an nbdkit that is %s', async (_what, program, why) => {
    const file = join(folder, 'old-nbdkit');
    writeFileSync(file, '#!/bin/sh\necho nbdkit 1.30.0\n');
    chmodSync(file, 0o755);
    configure({ nbdkit: program === 'old-nbdkit' ? file : program });
    const { exitCode, stdout } = await runCli(['check', '--json'], env);
    const { findings } = JSON.parse(stdout) as { findings: { code: string; severity: string; observed: string }[] };
    const found = findings.find(({ code, severity }) => code === 'N1' && severity === 'error');
    expect(found?.observed).toMatch(why);
    expect(exitCode).toBe(1);
    expect(await writes()).toEqual([]);
  });
});

describe('a wrong password', () => {
  it.each([
    ['source', 'vCenter vc', { vcenterPassword: 'guess' }],
    ['target', 'Pool p', { poolPassword: 'guess' }],
  ] as const)(
    'of the %s is tried once, however often the command is repeated',
    async (side, object, wrong) => {
      configure(wrong);
      const before = await logins(side);
      const first = await refused(['migrate', 'good']);
      expect(first).toMatchObject({ type: 'AuthenticationFailed', exitCode: 1 });
      const again = await refused(['migrate', 'good']);
      expect(again.message).toMatch(/It did so at .*, and the password is still the same/);
      const checked = await runCli(['check', '--json'], env);
      const { findings } = JSON.parse(checked.stdout) as { findings: { code: string; object: string }[] };
      expect(findings.filter(({ code }) => code === 'endpoint')).toMatchObject([{ object }]);
      expect((await logins(side)) - before).toBe(1);
      // Another one is tried at once.
      configure();
      expect((await runCli(['migrate', 'good', '--dry-run'], env)).exitCode).toBe(0);
    },
    180_000,
  );
});
