import type { LoginGuard } from '../shared/login-guard.js';
import type { PinnedTls } from '../shared/pinned-tls.js';

/** A disk of one snapshot, served by an nbdkit of ours on a private unix socket. Read only. */
export interface DiskSource {
  socketPath: string;
  /** The nbdkit command line for the record (S1). No secret is in it. */
  commandLine: string;
  /** For the record: `nbdkit 1.32.5, vddk plugin 1.42.3, VDDK 8.0.3`. */
  pluginVersion: string;
  /** Last lines of stderr, redacted, at most 200. */
  lastStderr(): string;
  /** The lines since that `performance.now()`, waiting a moment for one that names an error. */
  errorSince(since: number): Promise<string>;
  /** A closer look at a failed connection that stderr alone does not explain; resolves to a line for `classifyNbdkitFailure`. */
  diagnose?(stderr: string): Promise<string | undefined>;
  /** Where each connection is a login: what stands before it. */
  logins?: LoginGuard;
  /** Ways that VDDK took to the disk so far, by its own word: one of those it may take for each connection. */
  vddkWays?(): string[];
  /** How it ended, if it has: by itself or by `stop`. */
  exited(): NbdkitExit | undefined;
  /** What the forwarder moved; `https` only. */
  counters?(): ForwarderCounters;
  /** SIGTERM, after a grace period SIGKILL (a hung VDDK call ignores SIGTERM), then removes the socket. May run twice. */
  stop(): Promise<void>;
}

export interface NbdkitExit {
  exitCode?: number;
  signal?: string;
}

export interface ForwarderCounters {
  requests: number;
  /** Bytes of response bodies that came from vSphere. */
  bytesReceived: number;
  /** How often a 401 made us ask for another session cookie. */
  renewals: number;
}

/** What every start of nbdkit needs. */
export interface NbdkitSettings {
  /** Path or name of nbdkit; a wrapper must `exec`, so that our child is nbdkit itself. Default `nbdkit`. */
  nbdkitCommand?: string;
  /** Folder of this host's run records, for `sweepLeftovers`. Made if missing, 0700. */
  runDir: string;
  /** Added to the small explicit environment. */
  env?: Record<string, string>;
  /** nbdkit's `--threads`. Default 16. */
  threads?: number;
  /** Filters from the outside in, such as `error`; their parameters go into `extraArgs`. */
  filters?: string[];
  extraArgs?: string[];
  /** Ends the start only; afterwards the caller calls `stop`. */
  signal?: AbortSignal;
}

export interface VddkOptions extends NbdkitSettings {
  /** Folder that contains `lib64/libvixDiskLib.so.*`. */
  libdir: string;
  server: string;
  /** Default 443. */
  port?: number;
  /** Port of the ESXi hosts; default 902. */
  nfcPort?: number;
  username: string;
  password: string;
  /** Asked before each connection, which is a login, and told when VDDK says that it was refused. */
  logins?: LoginGuard;
  /** SHA-1, `AA:BB:...`. */
  thumbprintSha1: string;
  vmMoRef: string;
  snapshotMoRef: string;
  /** `[datastore] dir/disk.vmdk`, the name that the disk has in the snapshot. */
  fileName: string;
  /** This link of the chain without its parents: good for its map, for what it lacks reads as zeroes. */
  singleLink?: boolean;
  /** Ways to the disk, in VDDK's order of preference. Never empty: without a list VDDK 8 crashes in containers. */
  transports: readonly string[];
  /** Between us and the ESXi host; VDDK 6.5 and later. */
  compression: string;
}

export interface HttpsOptions extends NbdkitSettings {
  /** `https://host/folder/DIR/NAME-flat.vmdk?dcPath=...&dsName=...`, already quoted. */
  url: string;
  tls: PinnedTls;
  /**
   * The session cookie, `vmware_soap_session=...`. Called again with the cookie that the server has just refused (401),
   * to get a newer one.
   */
  cookie: (refused?: string) => Promise<string>;
}

/** One run of the same kind in a disk's map. */
export interface MapExtent {
  offset: number;
  length: number;
  /** `zero` reads as zeroes. `absent` is not in this link of the chain: its content is unknown, never zero. */
  kind: 'data' | 'zero' | 'absent';
}

/** An NBD server in the network. It is spoken to over TLS, or not at all. */
export interface NbdRemote {
  /** Address without brackets. */
  host: string;
  port: number;
  exportName: string;
  tls: PinnedTls;
  /** Name in its certificate, where that is not `host`. */
  serverName?: string;
}

/** Where a disk is served: by an nbdkit of ours, or in the network. */
export type NbdServer = { socketPath: string } | { remote: NbdRemote };

export interface NbdClientSettings {
  /** The disk as people know it, for error texts. */
  subject?: string;
  timeouts?: {
    /** Connection and negotiation; with vddk that is a login and the opening of the disk. Default 120 s. */
    connectMs?: number;
    /** Longest time without a reply, or 64 KiB of one, while requests are outstanding. Default 180 s. */
    requestMs?: number;
    /** How long `close` waits for the requests in flight. Default 5 s. */
    drainMs?: number;
  };
  /** Ends the connecting only. */
  signal?: AbortSignal;
}

export type NbdClientOptions = NbdServer & NbdClientSettings;
