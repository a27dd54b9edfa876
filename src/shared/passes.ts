import type { Transport } from './migration-input.js';
import type { Bottleneck, TimeSpent } from './time-spent.js';
import type { Range } from './types.js';

/** Where a delta comes from: change tracking, the last snapshot's own extents, or a comparison with the target. */
export type DeltaSource = 'cbt' | 'single-link' | 'compare';

/** How the extents of a pass were found; a base pass takes the map of what is allocated, or reads all. */
export type DeltaMethod = DeltaSource | 'map' | 'all';

/** One disk as the migration knows it, on both sides. */
export interface DiskState {
  deviceKey: number;
  label: string;
  capacityBytes: number;
  /** Set once the target disk exists. */
  vdiUuid?: string;
  vdiSizeBytes?: number;
  /** Where its deltas come from, chosen when the clean snapshot was there, and why not from change tracking. */
  deltaBy?: DeltaSource;
  untracked?: string;
  /** The changeId that the next delta starts from: of the last pass that is durable on the target (R8). */
  changeId?: string;
  /** The source snapshot of that pass. */
  copiedSnapshot?: string;
  /** The pass that has written to the target disk since it was verified. */
  writtenBy?: string;
  passes: PassRecord[];
}

/** One full or delta copy of one disk. */
export interface PassRecord extends PassFigures {
  pass: string;
  kind: 'base' | 'delta';
  snapshotMoRef: string;
  transport: Transport;
  /** The best that was done so far: `verdicts` says what exactly. */
  verified?: 'read-back' | 'sampled' | 'changes-read-back' | 'acknowledged';
  verdicts?: Verdict[];
  /** Places that a read-back found different and that were sent again. */
  mended?: Range[];
}

/** Everything; what was planned and a share of the rest; what was planned alone. */
export type VerifyScope = 'full' | 'sampled' | 'changed';

/** A comparison of source and target that found no difference, and what it is worth. */
export interface Verdict {
  /** ISO 8601, when it began. */
  at: string;
  /** Disk of the target snapshot that was compared. */
  vdiUuid: string;
  scope: VerifyScope;
  /** `none`: nothing was read back; every segment was acknowledged by the pool. */
  via: 'nbd' | 'export' | 'none';
  /** Why not by ranges. */
  whyNotNbd?: string;
  bytesChecked: number;
  bytesTotal: number;
  /** Probability that one wrong sector, anywhere on the disk with the same chance, would have been found. */
  detection: number;
  /** Of `sampled`: the same for a sector outside what was planned, and what chose the sample. */
  share?: number;
  seed?: number;
  /** The digest chain that the target's bytes gave once more, and how many chunks are in it. */
  chainDigest: string;
  chunks: number;
  seconds: number;
}

/** What a copy reports of itself. */
export interface PassFigures {
  deltaMethod: DeltaMethod;
  bytesPlanned: number;
  /** What was read on both sides to find the extents; of `compare` only. */
  bytesCompared?: number;
  bytesRead: number;
  bytesSent: number;
  seconds: number;
  segments: number;
  /** What was waited for, in seconds, and which leg that makes the slowest. */
  spent: TimeSpent;
  bottleneck?: Bottleneck;
  /** Where it was read from: the ESXi host that the VM was on. */
  esxiHost?: string;
  /** Bytes per second that one connection over each network was seen to carry, by a probe and by the kernel's count, as far as it could be seen. */
  links?: { vmware?: number; xcpng?: number };
  planDigest: string;
  chainDigest: string;
  /** The nbdkit command line that read it, secrets removed (S1), and the versions of plugin and library. */
  nbdkit: string;
  versions: string;
  /** Ways that VDDK took to the disk in the last attempt: `nbdssl`, or one that is not encrypted. */
  vddkWays?: string[];
}

/** Heartbeat of a transfer; `text` first because the Web UI prints the details as they are. */
export interface TransferProgress {
  text: string;
  phase: 'open' | 'compare' | 'copy' | 'verify';
  disk: string;
  doneBytes: number;
  totalBytes: number;
  bytesPerSecond: number;
  attempt: number;
  /** The slowest leg of this pass so far. */
  bottleneck?: Bottleneck;
  /** What the configuration allows now; absent without a limit, 0 while the transfer waits for other hours. */
  limitBytesPerSecond?: number;
}
