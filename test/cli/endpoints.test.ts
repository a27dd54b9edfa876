import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startVsphere, type RunningVsphere } from '../../lab/vsphere/start.js';
import { startXcpng, type XcpngLab } from '../../lab/xcpng/start.js';
import type { RunningTemporal } from '../../src/cli/index.js';
import { startIdleTransferWorker, startTinyWorker } from '../client/tiny-worker.js';
import { runCli, startServer } from './harness.js';

const MIB = 1024 ** 2;
const folder = mkdtempSync(join(tmpdir(), 'surefire-endpoints-'));
const config = join(folder, 'surefire.yaml');
let vsphere: RunningVsphere;
let pool: XcpngLab;
let temporal: RunningTemporal;
let workers: { stop(): Promise<void> }[] = [];
let env: Record<string, string>;

beforeAll(async () => {
  const disk = { capacityBytes: 8 * MIB };
  const vm = (name: string) => ({ name, poweredOn: true, disks: [disk], nics: [{ network: 'VM Network' }] });
  const scenario = { vms: [vm('web01'), vm('twin'), vm('db01')] };
  [vsphere, pool, temporal] = await Promise.all([
    startVsphere({ stateDir: join(folder, 'vsphere'), scenario }),
    startXcpng({ stateDir: join(folder, 'xcpng') }),
    startServer(folder),
  ]);
  workers = await Promise.all([
    startTinyWorker(temporal.address),
    startIdleTransferWorker(temporal.address, 'transfer.test'),
  ]);
  writeConfig({});
  env = {
    ...{
      SUREFIRE_CONFIG: config,
      SUREFIRE_TEMPORAL_ADDRESS: temporal.address,
      SUREFIRE_TEMPORAL_WEB_URL: temporal.webUrl,
    },
    ...{ VC_PASSWORD: vsphere.password, POOL_PASSWORD: pool.password },
  };
});

afterAll(async () => {
  await Promise.all(workers.map((worker) => worker.stop()));
  await Promise.all([vsphere?.stop(), pool?.stop(), temporal?.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

/** Without a pin for the vCenter when `pin` is empty, with a second name for the same vCenter when `twice`. */
function writeConfig({ pin = vsphere.fingerprintSha256, twice = false }: { pin?: string; twice?: boolean }): void {
  const trust = pin === '' ? '' : `, fingerprintSha256: "${pin}"`;
  const vcenter = `{ url: "${vsphere.url}", username: "${vsphere.username}", passwordEnv: VC_PASSWORD${trust} }`;
  writeFileSync(
    config,
    `vcenters:
  vc: ${vcenter}
${twice ? `  other: ${vcenter}\n` : ''}pools:
  p:
    { url: "${pool.url}", username: "${pool.username}", passwordEnv: POOL_PASSWORD, fingerprintSha256: "${pool.fingerprintSha256}",
      sr: Local thin, networks: { VM Network: Pool-wide network associated with eth0 } }
transfer: { queue: transfer.test, runDir: run }
state: { dir: state }
`,
  );
}

interface Checked {
  errors: number;
  findings: { code: string; severity: string; object: string; observed: string; remedy: string }[];
}

async function check(...more: string[]): Promise<{ exitCode: number | undefined; checked: Checked }> {
  const { exitCode, stdout } = await runCli(['check', ...more, '--json'], env);
  return { exitCode, checked: JSON.parse(stdout) as Checked };
}

describe('inventory', () => {
  it('lists the VMs of the vCenter, as a table and as data', async () => {
    const { stdout, exitCode } = await runCli(['inventory'], env);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^vCenter +Name +MoRef +Power/);
    expect(stdout).toMatch(/\nvc +web01 +vm-\d+ +on /);
    const { vms } = JSON.parse((await runCli(['inventory', '--json'], env)).stdout) as { vms: { name: string }[] };
    expect(vms.map(({ name }) => name)).toEqual(['db01', 'twin', 'web01']);
  });

  it('exits 2 for a vCenter that is not configured', async () => {
    const { stderr, exitCode } = await runCli(['inventory', '--vcenter', 'elsewhere'], env);
    expect(stderr).toContain('No vCenter is called "elsewhere".');
    expect(exitCode).toBe(2);
  });
});

describe('migrate', () => {
  it('shows the plan and starts nothing with --dry-run', async () => {
    const { stdout, exitCode } = await runCli(['migrate', 'web01', '--dry-run'], env);
    expect(exitCode).toBe(0);
    expect(stdout).toContain('Disk       ');
    expect(stdout).toMatch(/SR +Local thin \([0-9a-f-]{36}\)/);
    expect(stdout).toContain('Network    VM Network -> Pool-wide network associated with eth0');
    expect(stdout).toContain('Nothing was started.');
    expect(JSON.parse((await runCli(['status', '--json'], env)).stdout)).toMatchObject({ migrations: [] });
  });

  it('starts by name, refuses the second start by exit 12', async () => {
    const first = await runCli(['migrate', 'db01', '--json', '--transport', 'https'], env);
    expect(first.exitCode).toBe(0);
    expect(JSON.parse(first.stdout)).toMatchObject({ schema: 1, vm: 'db01' });
    const second = await runCli(['migrate', 'db01'], env);
    expect(second.stderr).toContain('db01 is being migrated already');
    expect(second.exitCode).toBe(12);
  });

  it('exits 11 for a VM that is not there', async () => {
    const { stderr, exitCode } = await runCli(['migrate', 'web02'], env);
    expect(stderr).toBe(
      'No VM is called "web02".\n3 VMs were looked at; names are compared exactly.\nNext: see `surefire inventory`.',
    );
    expect(exitCode).toBe(11);
  });

  it('exits 2 for a name that fits two, naming both and the next command', async () => {
    writeConfig({ twice: true });
    const { stderr, exitCode } = await runCli(['migrate', 'twin'], env);
    writeConfig({});
    expect(stderr).toMatch(/VM "twin" matches 2 machines: vm-\d+ \(vc, folder .+\), vm-\d+ \(other, folder .+\)\./);
    expect(stderr).toMatch(/Next: use the MoRef: `surefire migrate vm-\d+ --vcenter vc`\./);
    expect(exitCode).toBe(2);
  });

  it('exits 2 for a network without a target and for a hook that is not configured', async () => {
    const lost = await runCli(['migrate', 'web01', '--network', 'VM Network=nowhere', '--dry-run'], env);
    expect(lost.stderr).toContain('has no network "nowhere"');
    expect(lost.exitCode).toBe(2);
    const hook = await runCli(['migrate', 'web01', '--shutdown-hook', '--dry-run'], env);
    expect(hook.stderr).toContain('no hook is configured');
    expect(hook.exitCode).toBe(2);
  });
});

describe('check', () => {
  it('looks at both sides, the tools, the server and its workers', async () => {
    const { checked, exitCode } = await check();
    const about = (code: string) => checked.findings.filter((finding) => finding.code === code);
    expect(about('certificate').map(({ severity }) => severity)).toEqual(['info', 'info']);
    expect(about('vcenter')[0]?.observed).toMatch(/logged in\.$/);
    expect(about('pool')[0]?.observed).toBe('XCP-ng 8.3.0, 2 hosts, logged in.');
    expect(about('pool')[1]?.observed).toMatch(/^SR Local thin \(/);
    expect(about('workers').map(({ object }) => object)).toEqual(['Queue surefire', 'Queue transfer.test']);
    expect(checked.errors).toBe(0);
    expect([0, 3]).toContain(exitCode);
  });

  it('[S32] says of a VM what its preflight would say, with severity, observation and remedy', async () => {
    const { checked } = await check('web01');
    const tracking = checked.findings.filter(({ object }) => object.includes('web01'));
    expect(tracking.length).toBeGreaterThan(0);
    for (const finding of tracking) expect(['error', 'warning', 'info']).toContain(finding.severity);
    expect(await check('nobody')).toMatchObject({ exitCode: 11 });
  });

  it('shows the fingerprint of a certificate nobody has trusted yet, and how to pin it', async () => {
    writeConfig({ pin: '' });
    const { checked } = await check();
    writeConfig({});
    const finding = checked.findings.find(({ code, object }) => code === 'certificate' && object === 'vCenter vc');
    expect(finding?.severity).toBe('error');
    expect(finding?.remedy).toContain(`set vcenters.vc.fingerprintSha256: "${vsphere.fingerprintSha256}"`);
  });

  it('refuses a certificate that is not the pinned one', async () => {
    writeConfig({ pin: 'AA:'.repeat(31) + 'AA' });
    const { checked } = await check();
    writeConfig({});
    const finding = checked.findings.find(({ code, object }) => code === 'certificate' && object === 'vCenter vc');
    expect(finding).toMatchObject({ severity: 'error' });
    expect(finding?.observed).toContain('pinned is AA:AA:');
  });
});
