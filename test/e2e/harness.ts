import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { cachePath } from '../../lab/cache.js';
import { LAB_ENDPOINTS, writeConfig, type ConfigChoices } from '../../lab/demo/config.js';
import { startLab, type Lab, type LabVmSpec } from '../../lab/lab.js';
import { VsphereAdmin } from '../../lab/vsphere/admin.js';
import { XcpngAdmin } from '../../lab/xcpng/admin.js';
import { connectDeps } from '../../src/activities/connections.js';
import { resolveTarget } from '../../src/cli/resolve-target.js';
import { connectClient, type SurefireClient } from '../../src/client.js';
import { loadConfig, type Config } from '../../src/config.js';
import type { MigrationInput, MigrationPolicy } from '../../src/shared/index.js';
import { spawnCli } from '../cli/harness.js';
import { ApiClient } from '../lab/xcpng-client.js';
import { vi } from 'vitest';
import { Run, waitFor } from './run.js';

export { failureOf, Run, waitFor } from './run.js';

// Real boots on a machine that others use as well.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 180_000 });

export const MIB = 2 ** 20;
export const OPERATOR = 'olga';

/** A VM whose Tools are gone already, so that its migration goes straight to the first copy. */
export const plain = (name: string, vsphere: LabVmSpec['vsphere'] = {}): LabVmSpec => ({
  name,
  firmware: 'bios',
  vsphere: { tools: 'none', ...vsphere },
});

/** The nbdkit that set-up has chosen: its vddk plugin may not be the distribution's. With it `auto` means VDDK. */
export async function useChosenNbdkit(): Promise<void> {
  const nbdkit = (await readFile(cachePath('nbdkit.path'), 'utf8')).trim();
  process.env['PATH'] = `${dirname(nbdkit)}${delimiter}${process.env['PATH']}`;
}

export interface Choices {
  policy?: Partial<MigrationPolicy>;
  /** Default: given at the start. */
  acknowledge?: boolean;
  repeatReason?: string;
  /** Default: that of `surefire up`. See `startTransferWorker`. */
  transferQueue?: string;
}

/** Where the state is (design 15): a Temporal server that is ready, and both workers. */
export interface Home {
  address: string;
  webUrl: string;
  namespace: string;
  temporalPid: number;
  stop(): Promise<unknown>;
}

/** What may differ in a small home: ports, for one that is started again, and the build. */
export interface UpChoices {
  port?: string;
  uiPort?: string;
  main?: string;
}

export interface SmallHome extends Home {
  process: ReturnType<typeof spawnCli>;
}

/** The small one. @param file The configuration. */
export async function surefireUp(file: string, { port = '0', uiPort = '0', main }: UpChoices = {}): Promise<SmallHome> {
  const up = spawnCli(['up', '--json', '--port', port, '--ui-port', uiPort, '--config', file], {}, main);
  let out = '';
  up.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  await waitFor('`surefire up` to be ready', async () => {
    if (up.exitCode !== null) throw new Error(`surefire up ended: ${(await up).stderr}`);
    return out.includes('\n');
  });
  const announced = JSON.parse(out) as Omit<Home, 'stop'>;
  if (announced.address === undefined) throw new Error(`surefire up refuses: ${out}`);
  return {
    ...announced,
    process: up,
    stop() {
      up.kill('SIGTERM');
      return up;
    },
  };
}

/**
 * A data centre, a Temporal server and both workers, all real processes, for one test file. Its VMs are small and many:
 * each test takes one of its own, so that tests run side by side.
 */
export class Bench {
  readonly lab: Lab;
  readonly vsphere: VsphereAdmin;
  readonly pool: XcpngAdmin;
  /** Sees the pool as it is, past our adapter. */
  readonly api: ApiClient;
  readonly client: SurefireClient;
  readonly temporal: Client;
  readonly deps: ReturnType<typeof connectDeps>;
  readonly config: Config;
  readonly temporalPid: number;
  /** Ended before everything else, newest first. */
  readonly endings: (() => Promise<unknown>)[] = [];
  readonly #stop: () => Promise<void>;

  private constructor(
    parts: Pick<Bench, 'lab' | 'api' | 'client' | 'temporal' | 'config' | 'temporalPid'>,
    stop: () => Promise<void>,
  ) {
    this.lab = parts.lab;
    this.api = parts.api;
    this.client = parts.client;
    this.temporal = parts.temporal;
    this.config = parts.config;
    this.temporalPid = parts.temporalPid;
    this.deps = connectDeps(parts.config);
    this.vsphere = new VsphereAdmin(parts.lab.description.vsphere.adminUrl);
    this.pool = new XcpngAdmin(parts.lab.pool.adminUrl);
    this.#stop = stop;
  }

  /** @param shutdownHook Makes the command of rung 2 from the lab that has just started. */
  static async start(
    vms: LabVmSpec[],
    shutdownHook?: (lab: Lab) => string[],
    choices: ConfigChoices = {},
    startHome: (file: string) => Promise<Home> = surefireUp,
  ): Promise<Bench> {
    const folder = await mkdtemp(join(tmpdir(), 'surefire-e2e-'));
    const lab = await startLab({ stateDir: join(folder, 'lab'), vms });
    const file = await writeConfig(folder, lab.description, {
      bootStableSeconds: 3,
      segmentBytes: 8 * MIB,
      ...(shutdownHook && { shutdownHook: shutdownHook(lab) }),
      ...choices,
    });
    const home = await startHome(file);
    const { address, webUrl, namespace, temporalPid } = home;
    const client = await connectClient({ temporal: { address, webUrl, namespace } });
    const connection = await Connection.connect({ address });
    const temporal = new Client({ connection, namespace });
    const api = await ApiClient.connect(lab.pool);
    const config = { ...loadConfig(file), temporal: { ...loadConfig(file).temporal, address, webUrl } };
    const bench = new Bench({ lab, api, client, temporal, config, temporalPid }, async () => {
      for (const end of bench.endings.reverse()) await end();
      await Promise.all([client.close(), connection.close(), bench.deps.close()]);
      await home.stop();
      await lab.stop();
      await rm(folder, { recursive: true, force: true });
    });
    return bench;
  }

  stop(): Promise<void> {
    return this.#stop();
  }

  /** What `surefire migrate` would start, with what this test wants otherwise. */
  async inputFor(vm: string, choices: Choices = {}): Promise<MigrationInput> {
    const { vcenter, pool } = LAB_ENDPOINTS;
    const { moRef } = await this.vsphere.vm(vm);
    const { nics } = await this.deps.vsphere(vcenter).inspectVm({ vmMoRef: moRef });
    const networkNames = nics.map(({ networkName }) => networkName);
    const { sr, networks } = await resolveTarget(this.deps, this.config, pool, { networkNames, overrides: {} });
    const { acknowledge = true, policy, repeatReason, transferQueue = this.config.transfer.queue } = choices;
    return {
      vm,
      schema: 1,
      source: { vcenter, vmMoRef: moRef },
      target: {
        pool,
        srUuid: sr.uuid,
        networks: Object.fromEntries(Object.entries(networks).map(([name, { uuid }]) => [name, uuid])),
      },
      transferQueue,
      policy: { ...this.config.policy, shutdownHook: false, ...policy },
      requestedBy: OPERATOR,
      ...(acknowledge && { acknowledgedWarnings: { operator: OPERATOR, reason: 'a lab' } }),
      ...(repeatReason !== undefined && { repeatReason }),
    };
  }

  async migrate(vm: string, choices: Choices = {}): Promise<Run> {
    const { migrationId } = await this.client.start(await this.inputFor(vm, choices));
    return new Run(this, vm, migrationId);
  }

  /** The guest writes where no file system minds. @returns Where, and what, on every disk. */
  async guestWrites(vm: string, offset = 0): Promise<{ offset: number; bytes: Buffer }[]> {
    const made = this.lab.description.vms.find(({ name }) => name === vm);
    const { disks } = await this.vsphere.vm(vm);
    return Promise.all(
      disks.map(async ({ deviceKey }, index) => {
        const at = (made?.disks[index]?.scratch.offset ?? 0) + offset;
        const bytes = Buffer.alloc(70_144, `${vm} ${index} ${offset} ${Math.random()}`);
        await this.vsphere.guestWrite(vm, deviceKey, at, bytes);
        return { offset: at, bytes };
      }),
    );
  }

  /** Random bytes everywhere on the VM's second disk: no hole, so that it is known how much is to be sent, and when. */
  async fillDataDisk(vm: string, bytes: number): Promise<void> {
    const { disks } = await this.vsphere.vm(vm);
    for (let offset = 0; offset < bytes; offset += 8 * MIB)
      await this.vsphere.guestWrite(vm, disks[1]?.deviceKey ?? 0, offset, randomBytes(8 * MIB));
  }

  /** Raw files of a VM's disks on the source; all of the content once no snapshot is left. */
  async sourceFiles(vm: string): Promise<string[]> {
    return (await this.vsphere.vm(vm)).disks.map(({ base }) => base);
  }

  /** Raw files of VDIs, in the order given. */
  async vdiFiles(uuids: string[]): Promise<string[]> {
    const places = await this.pool.vdis();
    return uuids.map((uuid) => {
      const place = places[uuid];
      if (place === undefined) throw new Error(`the pool has no VDI ${uuid}`);
      return place.path;
    });
  }

  /** Every VM, snapshot, disk, network and task on the pool that carries the VM's name or a migration of it. */
  async onPool(vm: string): Promise<string[]> {
    const { moRef } = await this.vsphere.vm(vm);
    const found: string[] = [];
    for (const cls of ['VM', 'VDI', 'network', 'task']) {
      const records = await this.api.call<Record<string, PoolRecord>>(`${cls}.get_all_records`);
      for (const { uuid, name_label: name, other_config: marks, managed } of Object.values(records)) {
        const ofIt = name.includes(vm) || marks['surefire:migration']?.includes(`/${moRef}#`);
        if (ofIt && managed !== false) found.push(`${cls} ${name} ${uuid}`);
      }
    }
    return found.sort();
  }

  /** What a migration may not leave changed on the source. */
  async sourceState(vm: string) {
    const { moRef, powerState, snapshots } = await this.vsphere.vm(vm);
    const { changeTrackingEnabled } = await this.deps.vsphere(LAB_ENDPOINTS.vcenter).inspectVm({ vmMoRef: moRef });
    return { powerState, changeTrackingEnabled, snapshots: snapshots.map(({ name }) => name) };
  }

  /** Somebody else's snapshot. */
  async foreignSnapshot(vm: string, name: string): Promise<void> {
    const { moRef } = await this.vsphere.vm(vm);
    await this.deps
      .vsphere(LAB_ENDPOINTS.vcenter)
      .ensureSnapshot({ vmMoRef: moRef, name, ownerId: 'a backup job', description: 'nightly' });
  }
}

interface PoolRecord {
  uuid: string;
  name_label: string;
  other_config: Record<string, string>;
  managed?: boolean;
}

/** Whether the target holds what the source holds; what the target is longer by must be zero. */
export async function isSameContent(source: string, target: string): Promise<boolean> {
  const [a, b] = await Promise.all([readFile(source), readFile(target)]);
  return b.length >= a.length && a.equals(b.subarray(0, a.length)) && b.subarray(a.length).every((byte) => byte === 0);
}
