import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { LabDescription } from '../lab.js';

/** Names of the endpoints in the configuration that {@link writeConfig} writes. */
export const LAB_ENDPOINTS = { vcenter: 'lab', pool: 'lab-pool' } as const;

/** What a lab's configuration may differ in. */
export interface ConfigChoices {
  /** Program that shuts a source down from outside (R10), and its arguments. */
  shutdownHook?: string[];
  nbdkit?: string;
  temporal?: string;
  /** Seconds a started VM must run; short, because the lab's guests boot in seconds. */
  bootStableSeconds?: number;
  segmentBytes?: number;
  /** Where the transfer worker shows its figures, `host:port`. */
  metrics?: string;
  /** Ports for `surefire up`; without them its usual ones. */
  ports?: { temporal: number; webUi: number };
}

/**
 * Writes the `surefire.yaml` an administrator of this data centre would write: endpoints by name, pins as accepted,
 * passwords in files that nobody else can read.
 *
 * @returns The path of the configuration.
 */
export async function writeConfig(folder: string, lab: LabDescription, choices: ConfigChoices = {}): Promise<string> {
  const [pool] = lab.pools;
  if (!pool) throw new Error('the lab has no pool');
  const secrets = join(folder, 'secrets');
  await mkdir(secrets, { recursive: true, mode: 0o700 });
  const secret = async (name: string, value: string) => {
    const file = join(secrets, name);
    await writeFile(file, `${value}\n`, { mode: 0o600 });
    await chmod(file, 0o600);
    return file;
  };
  const { bootStableSeconds = 8, segmentBytes, shutdownHook, nbdkit, temporal, ports, metrics } = choices;
  const config = {
    temporal: {
      ...(temporal !== undefined && { command: temporal }),
      ...(ports && { address: `127.0.0.1:${ports.temporal}`, webUrl: `http://127.0.0.1:${ports.webUi}` }),
    },
    vcenters: {
      [LAB_ENDPOINTS.vcenter]: {
        url: lab.vsphere.url,
        username: lab.vsphere.username,
        passwordFile: await secret('vcenter', lab.vsphere.password),
        fingerprintSha256: lab.vsphere.fingerprintSha256,
        nfcPort: lab.vsphere.nfcPort,
      },
    },
    pools: {
      [LAB_ENDPOINTS.pool]: {
        url: pool.url,
        username: pool.username,
        passwordFile: await secret('pool', pool.password),
        fingerprintSha256: pool.fingerprintSha256,
        sr: 'Local thin',
        networks: { default: 'Pool-wide network associated with eth0' },
      },
    },
    transfer: {
      vddkLibdir: lab.vddkLibdir,
      ...(nbdkit !== undefined && { nbdkit }),
      ...(segmentBytes !== undefined && { segmentBytes }),
      runDir: join(folder, 'run'),
    },
    ...(metrics !== undefined && { metrics: { transfer: metrics } }),
    ...(shutdownHook && { hooks: { shutdown: { command: shutdownHook } } }),
    policy: { bootStableSeconds, shutdownTimeoutSeconds: 60 },
    state: { dir: join(folder, 'surefire') },
  };
  const file = join(folder, 'surefire.yaml');
  await writeFile(file, stringify(config), { mode: 0o600 });
  return file;
}
