import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { portToUse } from './ports.js';
import { makeVddkLibdir } from './vddk/libdir.js';
import { DEMO_VMS, type LabVmMade, type LabVmSpec, makeVms, scenarioOf } from './vms.js';
import { type RunningVsphere, startVsphere } from './vsphere/start.js';
import { startXcpng, type XcpngLab } from './xcpng/start.js';

export { DEMO_VMS, type LabVmMade, type LabVmSpec } from './vms.js';

/** What a client needs to know of a running lab: the JSON line of `npm run lab -- --json`. */
export interface LabDescription {
  schema: 1;
  stateDir: string;
  vsphere: {
    url: string;
    username: string;
    password: string;
    fingerprintSha256: string;
    thumbprintSha1: string;
    adminUrl: string;
    /** Where its ESXi hosts answer as on their port 902. */
    nfcPort: number;
    /** Folder with one folder per datastore. */
    root: string;
  };
  pools: {
    url: string;
    username: string;
    password: string;
    fingerprintSha256: string;
    adminUrl: string;
    /** Second host of the pool: answers 302 to the first. */
    slaveUrl: string;
  }[];
  vddkLibdir: string;
  vms: LabVmMade[];
}

/** A running lab. */
export interface Lab {
  description: LabDescription;
  vsphere: RunningVsphere;
  pool: XcpngLab;
  /** Ends all its processes and waits for that. */
  stop(): Promise<void>;
}

/** Where and with what {@link startLab} starts. */
export interface LabOptions {
  /** New, or of an earlier lab: then VMs, passwords, certificates, disks and, where free, ports are the old ones. */
  stateDir: string;
  /** Only looked at when `stateDir` is new; default {@link DEMO_VMS}. */
  vms?: LabVmSpec[];
  /** Hears what happens, for people. */
  onStep?: (what: string) => void;
}

/**
 * Starts the simulated data centre: a vCenter with VMs whose disks boot, an XCP-ng pool, a VDDK folder.
 * All on free ports of 127.0.0.1; everything ends with this process.
 *
 * @throws Error when a part does not start; the parts that did are stopped again.
 */
export async function startLab(options: LabOptions): Promise<Lab> {
  const stateDir = resolve(options.stateDir);
  const onStep = options.onStep ?? (() => undefined);
  await mkdir(stateDir, { recursive: true, mode: 0o700 });
  const vms = await madeOnce(join(stateDir, 'vms.json'), () => {
    onStep('making the disks of the VMs');
    return makeVms(join(stateDir, 'inputs'), options.vms ?? DEMO_VMS);
  });
  const ports = await madeOnce(join(stateDir, 'ports.json'), () => Promise.resolve<Record<string, number>>({}));
  const listen = async (name: string) => `127.0.0.1:${await portToUse(ports[name])}`;

  onStep('starting vCenter');
  const vsphere = await startVsphere({
    stateDir: join(stateDir, 'vsphere'),
    scenario: { vms: vms.map(({ made, spec }) => scenarioOf(made, spec)) },
    listen: await listen('vsphere'),
    adminListen: await listen('vsphereAdmin'),
    nfcListen: await listen('nfc'),
  });
  let pool: XcpngLab | undefined;
  try {
    onStep('starting the XCP-ng pool');
    pool = await startXcpng({
      stateDir: join(stateDir, 'xcpng'),
      port: await portToUse(ports['pool']),
      adminPort: await portToUse(ports['poolAdmin']),
    });
    const vddkLibdir = await makeVddkLibdir({
      dir: join(stateDir, 'vddk'),
      root: vsphere.root,
      server: new URL(vsphere.url).hostname,
      port: portOf(vsphere.url),
      username: vsphere.username,
      password: vsphere.password,
      thumbprintSha1: vsphere.thumbprintSha1,
    });
    const used = {
      vsphere: portOf(vsphere.url),
      vsphereAdmin: portOf(vsphere.adminUrl),
      nfc: vsphere.nfcPort,
      pool: portOf(pool.url),
      poolAdmin: portOf(pool.adminUrl),
    };
    await writeFile(join(stateDir, 'ports.json'), JSON.stringify(used));
    const made = vms.map((vm) => vm.made);
    return running(describe(stateDir, vsphere, pool, vddkLibdir, made), vsphere, pool);
  } catch (error) {
    await Promise.all([vsphere.stop(), pool?.stop()]);
    throw error;
  }
}

function running(description: LabDescription, vsphere: RunningVsphere, pool: XcpngLab): Lab {
  const stop = async () => {
    await Promise.all([vsphere.stop(), pool.stop()]);
  };
  return { description, vsphere, pool, stop };
}

function describe(
  stateDir: string,
  vsphere: RunningVsphere,
  pool: XcpngLab,
  vddkLibdir: string,
  vms: LabVmMade[],
): LabDescription {
  const { url, username, password, fingerprintSha256, thumbprintSha1, adminUrl, nfcPort, root } = vsphere;
  return {
    schema: 1,
    stateDir,
    vsphere: { url, username, password, fingerprintSha256, thumbprintSha1, adminUrl, nfcPort, root },
    pools: [
      {
        url: pool.url,
        username: pool.username,
        password: pool.password,
        fingerprintSha256: pool.fingerprintSha256,
        adminUrl: pool.adminUrl,
        slaveUrl: pool.slaveUrl,
      },
    ],
    vddkLibdir,
    vms,
  };
}

function portOf(url: string): number {
  return Number(new URL(url).port);
}

// What a state folder was made with is kept in it, so that the next start finds the same VMs.
async function madeOnce<T>(file: string, make: () => Promise<T>): Promise<T> {
  const text = await readFile(file, 'utf8').catch(() => undefined);
  if (text !== undefined) return JSON.parse(text) as T;
  const made = await make();
  await writeFile(file, JSON.stringify(made), { mode: 0o600 });
  return made;
}
