import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { setVddkFaults } from '../../lab/vddk/libdir.js';
import type { PassRecord, Transport } from '../../src/shared/index.js';
import { runCli } from '../cli/harness.js';
import { Bench, MIB, plain, useChosenNbdkit, waitFor } from '../e2e/harness.js';
import { cliOf } from '../e2e/watching.js';
import { startTransferWorker } from '../e2e/workers.js';
import { configFileOf, lookAtVm } from '../e2e/world.js';

// A slow network is one that the kernel makes slow: a proxy in between would be a slow receiver. So the lab and all of
// surefire run in a network namespace of their own, which takes no rights; this file runs itself there.
const INSIDE = process.env['SUREFIRE_TEST_NETWORK'] === 'own';
const OWN_NETWORK = ['--map-root-user', '--net', 'sh', '-c'];
/** Packets of a real network's size, and a class of its own for what is to be slow. */
const PREPARE = [
  'ip link set lo up mtu 1500',
  'tc qdisc add dev lo root handle 1: htb default 1',
  'tc class add dev lo parent 1: classid 1:1 htb rate 40gbit quantum 60000',
  'tc class add dev lo parent 1: classid 1:2 htb rate 40gbit quantum 60000',
].join(' && ');
const SLOW_MBIT = 32;
const SLOW_BYTES = SLOW_MBIT * 125_000;

const canShape = INSIDE || (await execa('unshare', [...OWN_NETWORK, PREPARE], { reject: false })).exitCode === 0;

describe.skipIf(INSIDE)('a network of its own', () => {
  it.skipIf(!canShape)('has each leg throttled in turn', { timeout: 600_000 }, async () => {
    const vitest = fileURLToPath(new URL('../../node_modules/vitest/vitest.mjs', import.meta.url));
    const config = ['run', '--config', 'vitest.deep.config.ts', fileURLToPath(import.meta.url)];
    const { exitCode, all } = await execa(
      'unshare',
      [...OWN_NETWORK, `${PREPARE} && exec "$0" "$@"`, process.execPath, vitest, ...config],
      { env: { SUREFIRE_TEST_NETWORK: 'own' }, reject: false, all: true },
    );
    expect(exitCode, all).toBe(0);
  });
});

describe.runIf(INSIDE)('the slowest leg', () => {
  const DATA_BYTES = 24 * MIB;
  let bench: Bench;

  beforeAll(async () => {
    await useChosenNbdkit();
    const vms = ['esxi', 'vddk', 'vmware', 'xapi', 'xcpng'].map((name) => ({
      ...plain(name),
      dataDiskBytes: [DATA_BYTES],
    }));
    bench = await Bench.start(vms);
    await Promise.all(vms.map(({ name }) => bench.fillDataDisk(name, DATA_BYTES)));
  });

  afterAll(() => bench?.stop());

  it('[S135] [S136] is the ESXi host when that reads slowly', async () => {
    await bench.vsphere.addRule({ method: '/folder', count: 10_000, seconds: 0.5 });
    const pass = await copied('esxi', 'https', 'ESXi host', () => bench.vsphere.clearRules());
    expect(pass.spent.readHost).toBeGreaterThan(2);
    const { host } = await bench.deps.vsphere('lab').inspectVm({ vmMoRef: (await bench.vsphere.vm('esxi')).moRef });
    expect(pass.esxiHost).toBe(host.name);
  });

  it('[S133] [S136] is the network to VMware when that carries no more', async () => {
    await slow('sport', bench.lab.description.vsphere.url);
    const pass = await copied('vmware', 'https', 'link to VMware', fast);
    // The probe had two copies beside it.
    expect(pass.links?.vmware).toBeGreaterThan(0.2 * SLOW_BYTES);
    expect(pass.links?.vmware).toBeLessThan(1.3 * SLOW_BYTES);
  });

  it('[S132] [S136] is the XCP-ng host when that takes bytes slowly', async () => {
    const pass = await copied(
      'xapi',
      'vddk',
      'XCP-ng host',
      async () => undefined,
      async (vdiUuid) => {
        await bench.pool.fault({ kind: 'slow', vdi: vdiUuid, writeMs: 500, times: 100 });
      },
    );
    expect(pass.spent.writeHost).toBeGreaterThan(2);
  });

  it('[S134] [S136] is the network to XCP-ng when that carries no more', async () => {
    await slow('dport', bench.lab.pool.url);
    const pass = await copied('xcpng', 'vddk', 'link to XCP-ng', fast);
    // The two disks share it.
    expect(pass.links?.xcpng).toBeGreaterThan(0.35 * SLOW_BYTES);
    expect(pass.links?.xcpng).toBeLessThan(1.3 * SLOW_BYTES);
  });

  it('is not told from the way there where only VDDK sees either', async () => {
    const { vddkLibdir } = bench.lab.description;
    await setVddkFaults(vddkLibdir, { read_delay_us: 500_000, async_threads: 1 });
    await copied('vddk', 'vddk', 'ESXi host or its link', () => setVddkFaults(vddkLibdir, {}));
  });

  /** Copies a VM by a worker that has seen nothing before. The leg is named while it is slow, and wherever it is told. */
  async function copied(
    vm: string,
    transport: Transport,
    leg: NonNullable<PassRecord['bottleneck']>,
    end: () => Promise<unknown>,
    begin: (vdiUuid: string) => Promise<void> = async () => undefined,
  ): Promise<PassRecord> {
    const { queue } = await startTransferWorker(bench, vm);
    const run = await bench.migrate(vm, { policy: { transport }, transferQueue: queue });
    const { disks } = await run.records('The target VM was created');
    await begin(disks[1]?.vdiUuid ?? '');
    const cli = async (...args: string[]) =>
      (await runCli([...args, '--config', configFileOf(bench)], cliOf(bench))).stdout;
    const named = new Set<string>();
    const pass = await waitFor(`the first copy of ${vm}`, async () => {
      const { steps, status } = await bench.client.status(run.id);
      const step = steps.find(({ activityId }) => activityId === 'base:Hard disk 2');
      if (step?.progress?.bottleneck) named.add(step.progress.text.replace(/.* · /, ''));
      return status?.disks[1]?.passes[0];
    });
    expect(named, JSON.stringify([...named, pass])).toContain(`slowest: ${leg}`);
    await end();
    const status = await run.reaches('verification');
    expect(pass.bottleneck).toBe(leg);
    expect(await cli('status', vm)).toContain(`slowest: ${leg}, `);
    expect(await cli('report', vm)).toContain(`slowest: ${leg}; waited `);
    const { vdis } = await lookAtVm(bench, status.artifacts.targetVmUuid ?? '');
    expect(JSON.parse(vdis[1]?.other_config['surefire:metrics-base'] ?? '{}')).toMatchObject({ bottleneck: leg });
    return pass;
  }
});

/** Packets from (or to) the port of that address go through the narrow class. */
async function slow(end: 'sport' | 'dport', url: string): Promise<void> {
  await tc('class', 'change', ...NARROW, 'rate', `${SLOW_MBIT}mbit`, 'quantum', '60000');
  const match = ['u32', 'match', 'ip', end, new URL(url).port, '0xffff', 'flowid', '1:2'];
  await tc('filter', 'add', 'dev', 'lo', 'parent', '1:', 'protocol', 'ip', 'prio', '1', ...match);
}

async function fast(): Promise<void> {
  await tc('filter', 'del', 'dev', 'lo', 'parent', '1:', 'prio', '1');
}

const NARROW = ['dev', 'lo', 'parent', '1:', 'classid', '1:2', 'htb'];

const tc = (...args: string[]) => execa('tc', args);
