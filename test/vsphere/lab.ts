import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VsphereAdmin } from '../../lab/vsphere/admin.js';
import { startVsphere, type RunningVsphere, type VsphereScenario, type VsphereVm } from '../../lab/vsphere/start.js';
import { createVsphere, type Vsphere, type VsphereOptions } from '../../src/vsphere/index.js';

export interface TestLab extends RunningVsphere {
  admin: VsphereAdmin;
  /** A client of ours with the lab's credentials and pin; closed with the lab. */
  connect(changes?: Partial<VsphereOptions>): Vsphere;
  /** Kills the process and starts it again at the same address, on the same state. */
  restart(): Promise<void>;
  /** Ends clients and process, and removes the files. */
  end(): Promise<void>;
}

/** The lab's vCenter as a process of its own, over TLS on a port of 127.0.0.1. */
export async function startTestLab(scenario: VsphereScenario): Promise<TestLab> {
  const stateDir = await mkdtemp(join(tmpdir(), 'surefire-vsphere-'));
  let lab = await startVsphere({ stateDir, scenario });
  const clients: Vsphere[] = [];
  return {
    ...lab,
    admin: new VsphereAdmin(lab.adminUrl),
    connect(changes = {}) {
      const { url, username, password, fingerprintSha256 } = lab;
      const client = createVsphere({ url, username, password, fingerprintSha256, pollMs: 50, ...changes });
      clients.push(client);
      return client;
    },
    async restart() {
      await lab.kill();
      lab = await startVsphere({
        stateDir,
        listen: new URL(lab.url).host,
        adminListen: new URL(lab.adminUrl).host,
        nfcListen: `127.0.0.1:${lab.nfcPort}`,
      });
    },
    async end() {
      await Promise.all(clients.map((client) => client.close()));
      await lab.stop();
      await rm(stateDir, { recursive: true, force: true });
    },
  };
}

/** A running Linux VM with Tools and one disk of 8 MiB. */
export function plainVm(name: string, changes: Partial<VsphereVm> = {}): VsphereVm {
  return { name, poweredOn: true, tools: 'running', disks: [{ capacityBytes: 8 << 20 }], ...changes };
}

/** MoRef of the VM of that name. */
export async function moRefOf(vsphere: Vsphere, name: string): Promise<string> {
  const found = (await vsphere.listVms()).find((vm) => vm.name === name);
  if (!found) throw new Error(`the lab has no VM ${name}`);
  return found.moRef;
}

/** The error an action ends with. */
export async function errorOf(action: Promise<unknown>): Promise<Error> {
  try {
    await action;
  } catch (error) {
    return error as Error;
  }
  throw new Error('it did not fail');
}
