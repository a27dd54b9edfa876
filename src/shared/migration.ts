import type { Finding } from './findings.js';
import type { Outcome, Stage, WaitingFor } from './stages.js';
import type { Bottleneck, TimeSpent } from './time-spent.js';

export type Transport = 'vddk' | 'https';
export type Firmware = 'bios' | 'uefi';

/** Input of one migration. Names endpoints, never passwords. `vm` comes first: the Web UI shows the input from its first key. */
export interface MigrationInput {
  /** The VM's name as the operator knows it. */
  vm: string;
  schema: 1;
  source: {
    /** Name of a configured vCenter. */
    vcenter: string;
    vmMoRef: string;
  };
  target: {
    /** Name of a configured pool. */
    pool: string;
    srUuid: string;
    /** Target network uuid for each source network name. */
    networks: Record<string, string>;
  };
  /** Task queue of the transfer workers, `transfer.<host>`. */
  transferQueue: string;
  policy: MigrationPolicy;
  /** Who started it; an acknowledgement of warnings needs a name and a reason (S34). */
  requestedBy: string;
  /** Given at the start: the operator has read the check's warnings. */
  acknowledgedWarnings?: Word;
  /** Why starting from the same VM again is wanted although it was migrated before (R12). */
  repeatReason?: string;
}

export interface MigrationPolicy {
  transport: 'auto' | Transport;
  /** A check older than this when its warnings are acknowledged is made again (S31). */
  checkValidMinutes: number;
  /** Rung 2 of the shutdown ladder (R10): run the configured command hook. */
  shutdownHook: boolean;
  /** Rung 4: hard power-off is allowed after the others failed. The text is the recorded consent. */
  hardPowerOffConsent?: string;
  /** How long each rung may take until the next one, in seconds. */
  shutdownTimeoutSeconds: number;
  /** Hours after which the clean snapshot is removed although nobody answered (R5). */
  snapshotHours: number;
  /** Seconds the test copy and the target must run with unmoved start time (R23). */
  bootStableSeconds: number;
  /** How a pass is read back: everything, or what was copied and a share of the rest where the pool offers ranges. */
  verify?: 'full' | 'sampled';
  /** Of `sampled`: that share, 0 to 1. */
  sampleShare?: number;
  /** Downtime the operator was promised, in seconds (S24). */
  downtimeBudgetSeconds: number;
}

/** Who said something, and why. Every message carries one. */
export interface Word {
  operator: string;
  reason?: string;
}

/** Who holds a migration, since when (ISO 8601), and why. */
export interface Paused extends Word {
  at: string;
}

/** One line of the migration's record: what happened, and by whose word if by someone's. */
export interface RecordEntry {
  /** ISO 8601. */
  at: string;
  stage: Stage;
  text: string;
  by?: string;
  reason?: string;
  /** What was observed when the entry was made; JSON values only. */
  evidence?: Record<string, unknown>;
}

export interface StageRecord {
  stage: Stage;
  startedAt: string;
  endedAt?: string;
}

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
  mended?: { offset: number; length: number }[];
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
}

/** Objects that the migration made, by the side that holds them. */
export interface Artifacts {
  baselineSnapshot?: string;
  cleanSnapshot?: string;
  finalSnapshot?: string;
  targetVmUuid?: string;
  testVmUuid?: string;
  testNetworkUuid?: string;
  /** Target snapshots by name, newest last. */
  targetSnapshots: { name: string; uuid: string; disks: { deviceKey: number; vdiUuid: string }[] }[];
}

/** Answer of the `status` query: a pure projection of the workflow's state. Fields are only ever added. */
export interface MigrationStatus {
  schema: 1;
  vm: string;
  /** The workflow id. */
  migrationId: string;
  /** Carried by every object that this run made, on both sides. */
  tag: string;
  stage: Stage;
  guideStage: string;
  since: string;
  outcome: Outcome;
  waitingFor: WaitingFor;
  /** What the person has to do, in one sentence. */
  instruction?: string;
  /** Names of the updates that would be accepted now; `addNote` and `setLimit` are at any time. */
  allowed: string[];
  /** 0 to 100, never decreases. */
  percent: number;
  firmware?: Firmware;
  transport?: Transport;
  sourcePower?: { found: string; now: string };
  /** Set while somebody holds the migration. */
  paused?: Paused;
  /** Set while somebody limits how fast its disks move, all of them together. */
  limit?: { mibPerSecond: number; operator: string; at: string };
  disks: DiskState[];
  artifacts: Artifacts;
  findings: Finding[];
  stages: StageRecord[];
  record: RecordEntry[];
  notes: Note[];
  /** What would be undone now, newest first. */
  undo: { kind: string; summary: string }[];
  downtime?: Downtime;
  testEvidence?: BootEvidence;
  targetEvidence?: BootEvidence;
}

export interface Note {
  at: string;
  operator: string;
  text: string;
  /** A fix has to be applied to the migrated VM and ticked off before acceptance (S108, S118). */
  fix: boolean;
  done?: { at: string; operator: string };
}

export interface Downtime {
  startedAt: string;
  poweredOffAt?: string;
  endedAt?: string;
  seconds?: number;
  budgetSeconds: number;
}

/** What was seen of a VM that was started on the target. */
export interface BootEvidence {
  vmUuid: string;
  powerState: string;
  startTime: string;
  /** Seconds during which it ran and `startTime` did not move. */
  stableSeconds: number;
  booted: boolean;
  osVersion?: Record<string, string>;
  addresses: string[];
  pvDrivers?: boolean;
  vifs: { mac: string; networkUuid: string; hasPif: boolean }[];
  consolePicture?: { contentType: string; bytes: number; file: string };
}

/** Result of a migration that succeeded; for the others it travels in the failure's details. */
export interface MigrationReport {
  schema: 1;
  vm: string;
  migrationId: string;
  outcome: Outcome;
  reason?: string;
  firmware?: Firmware;
  transport?: Transport;
  targetVmUuid?: string;
  disks: DiskState[];
  artifacts: Artifacts;
  findings: Finding[];
  stages: StageRecord[];
  record: RecordEntry[];
  notes: Note[];
  downtime?: Downtime;
  testEvidence?: BootEvidence;
  targetEvidence?: BootEvidence;
  /** Share of all bytes that moved before the power-off, 0 to 1 (S28). */
  warmShare?: number;
  /** What a person still has to remove or check; empty after a clean run. */
  leftovers: string[];
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
