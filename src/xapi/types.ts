import type { LoginGuard } from '../shared/login-guard.js';
import type { Firmware } from '../shared/index.js';
import type { PoolHost, TaskOutcome } from './upload/index.js';

export interface XapiOptions {
  /** `https://master`. */
  url: string;
  username: string;
  password: string;
  /** SHA-256 of the master's certificate. Without it `caFile`, else the system's authorities count. */
  fingerprintSha256?: string;
  caFile?: string;
  guard?: LoginGuard;
}

/** A XAPI record as it comes: field names are XAPI's own and stop in this folder. */
export type XapiRecord = Record<string, unknown> & { uuid: string; other_config: Record<string, string> };

export interface PoolFacts {
  poolName: string;
  productVersion: string;
  hostAddresses: string[];
}

export interface SrFacts {
  uuid: string;
  name: string;
  type: string;
  /** Whole size and what is used of it. */
  sizeBytes: number;
  usedBytes: number;
  /** Disks take their full size at creation. */
  thick: boolean;
  /** Disk image formats its driver knows. */
  formats: string[];
}

export interface TargetVmSpec {
  migrationId: string;
  name: string;
  description: string;
  cpuCount: number;
  coresPerSocket: number;
  memoryBytes: number;
  firmware: Firmware;
  isWindows: boolean;
  nics: { mac: string; networkUuid: string }[];
  hasCdDrive: boolean;
}

export interface TargetDiskSpec {
  migrationId: string;
  vmUuid: string;
  deviceKey: number;
  label: string;
  virtualSizeBytes: number;
  srUuid: string;
  /** From 0, in the guest's order. */
  index: number;
}

export interface TargetDisk {
  deviceKey: number;
  vdiUuid: string;
  /** As XAPI rounded it up. */
  virtualSizeBytes: number;
}

/** What an import or export of one VDI needs. */
export interface VdiAccess {
  host: PoolHost;
  sessionId: string;
  vdiRef: string;
  virtualSizeBytes: number;
  tlsForHost: (address: string) => Promise<PoolHost['tls']>;
}

/** An NBD server of the pool that gives one VDI, and how it is recognised. */
export interface NbdAccess {
  host: string;
  port: number;
  /** Names the VDI and our session; not for logs. */
  exportName: string;
  tls: PoolHost['tls'];
  /** Name in its certificate. */
  serverName: string;
}

export interface VmObservation {
  powerState: string;
  /** ISO 8601 of the last start; moves with every reboot. */
  startTime: string;
  guest?: { osVersion: Record<string, string>; addresses: string[]; pvDrivers: boolean };
  vifs: { mac: string; networkUuid: string; hasPif: boolean }[];
}

export interface OwnedObject {
  kind: 'VM' | 'snapshot' | 'VDI' | 'network' | 'task';
  uuid: string;
  name: string;
}

export type { PoolHost, TaskOutcome };
