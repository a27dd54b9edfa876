import type { TransportProbe } from '../nbd/index.js';
import type {
  BootEvidence,
  DeltaMethod,
  DiskState,
  Finding,
  MigrationInput,
  PassFigures,
  Range,
  TargetSnapshot,
  Transport,
  Verdict,
  VerifyScope,
} from '../shared/index.js';
import type { SnapshotDisk, SnapshotInfo, SourceNic, SourceVm } from '../vsphere/index.js';

/** Names the source VM; every activity on the source takes it. */
export interface SourceRef {
  vcenter: string;
  vmMoRef: string;
  migrationId: string;
}

/** Names the target pool and whose objects are meant. */
export interface TargetRef {
  pool: string;
  migrationId: string;
}

export interface SourceDiskFacts extends Pick<DiskState, 'deviceKey' | 'label' | 'capacityBytes'> {
  /** Why the snapshot's own extents cannot tell what changed; a sentence's end. */
  singleLinkObstacle?: string;
}

/** A TCP port that a transfer host has to reach. */
export interface Address {
  host: string;
  port: number;
  /** Whose port it is, for people. */
  what: string;
}

export interface PreflightResult {
  findings: Finding[];
  /** Absent when a side could not be asked; then the findings have an error. */
  plan?: PreflightPlan;
}

/** What preflight fixes for the rest of the migration. */
export interface PreflightPlan {
  /** The transport chosen, or the one asked for. */
  transport: Transport;
  /** What the transfer host has to reach for it. */
  mustReach: Address[];
  source: SourceFacts;
}

/** What of the source VM the rest of the migration goes by. */
export interface SourceFacts extends Pick<
  SourceVm,
  | 'name'
  | 'powerState'
  | 'firmware'
  | 'cpuCount'
  | 'coresPerSocket'
  | 'memoryBytes'
  | 'guestFullName'
  | 'isWindows'
  | 'instanceUuid'
  | 'changeTrackingEnabled'
  | 'hasCdDrive'
> {
  /** Why changes cannot be tracked. */
  withoutChangeTracking?: string;
  toolsInstalled: boolean;
  nics: Pick<SourceNic, 'mac' | 'networkName'>[];
  disks: SourceDiskFacts[];
}

export type ForeignSnapshot = Pick<SnapshotInfo, 'moRef' | 'name' | 'createTime' | 'sizeBytes'>;

export interface SourceSnapshot {
  snapshotMoRef: string;
  createTime: string;
  /** The snapshot it was taken on. */
  parentMoRef?: string;
  disks: Omit<SnapshotDisk, 'parentFileName'>[];
}

/** What vSphere says about the guest now; evidence of the tools gate. */
export interface GuestObservation {
  powerState: string;
  toolsInstalled: boolean;
  toolsRunning: boolean;
  toolsStatus: string;
  bootTime?: string;
}

/** One pass of one disk. The same input always means the same plan, so a retry goes on where the last attempt was. */
export interface CopyDiskInput {
  source: SourceRef;
  target: TargetRef;
  disk: Required<Pick<DiskState, 'deviceKey' | 'label' | 'capacityBytes' | 'vdiUuid'>>;
  /** `base`, `delta-2`, `final`: part of the checkpoint's identity. */
  pass: string;
  kind: 'base' | 'delta';
  transport: Transport;
  snapshotMoRef: string;
  fileName: string;
  baseFileName: string;
  /** What a delta starts from. Of `single-link` the snapshot's parent, which the target holds. */
  since?: { by: 'cbt'; changeId: string } | { by: 'single-link' } | { by: 'compare'; vdiUuid: string };
  /** How long attempts may move nothing before a person is asked (NoProgress). */
  patienceSeconds: number;
}

/** Read-back of one disk: a base pass against zero, a delta against the snapshot verified before (R21). */
export interface VerifyDiskInput extends CopyDiskInput {
  /** The VDI of the target snapshot taken after the pass. */
  snapshotVdiUuid: string;
  previousSnapshotVdiUuid?: string;
  planDigest: string;
  chainDigest: string;
  deltaMethod: DeltaMethod;
  /** `sampled` and `changed` need ranges; without them the former is done in full, the latter not at all. */
  scope: VerifyScope;
  /** Of `sampled`: share of what was not planned that is read, 0 to 1. */
  sampleShare: number;
}

/** What of a disk's last pass is to be sent again. */
export interface MendDiskInput extends CopyDiskInput {
  extents: Range[];
}

/**
 * Everything a migration does to the outside world. Each is one idempotent step: it may run twice, and a lost answer
 * is found again by the migration id on the object.
 */
export interface Activities extends SourceActivities, TargetActivities {
  preflight(input: { input: MigrationInput; migrationId: string; probe: TransportProbe }): Promise<PreflightResult>;
}

/** What is done to the source, except for reading its disks. */
export interface SourceActivities {
  listForeignSnapshots(input: SourceRef): Promise<ForeignSnapshot[]>;
  removeSourceSnapshots(input: SourceRef & { snapshotMoRefs: string[] }): Promise<void>;
  /** Removes the snapshots of these names that carry our id, newest first, and waits for consolidation. */
  removeOwnSnapshots(input: SourceRef & { names: string[] }): Promise<void>;
  setChangeTracking(input: SourceRef & { enabled: boolean }): Promise<void>;
  /** @param alone Nothing else may be in the chain: a foreign snapshot or a parent stops it (R3). */
  createSourceSnapshot(input: SourceRef & { name: string; alone: boolean }): Promise<SourceSnapshot>;
  /** Why the disks cannot be read over https; empty when nothing is in the way. */
  httpsObstacles(input: SourceRef): Promise<string[]>;
  /** After removing what lay below it: the snapshot's disks again, refused when one still has a parent (R3). */
  requireUnchained(input: SourceRef & { snapshotMoRef: string }): Promise<SourceSnapshot['disks']>;
  revertSource(input: SourceRef & { snapshotMoRef: string; powerOn: boolean }): Promise<void>;
  observeGuest(input: SourceRef): Promise<GuestObservation>;
  /** Ends when Tools are gone, with the boot time of that moment. */
  watchToolsRemoval(input: SourceRef): Promise<{ goneAt: string; bootTimeThen?: string }>;
  requestGuestShutdown(input: SourceRef): Promise<{ asked: boolean; why?: string }>;
  runShutdownHook(input: SourceRef & { vm: string }): Promise<{ ran: boolean; why?: string }>;
  powerOffSource(input: SourceRef): Promise<void>;
  /** Ends when the source is seen powered off, or after the time. */
  waitForPowerOff(input: SourceRef & { timeoutSeconds: number }): Promise<{ off: boolean; at: string }>;
  /** Per disk: how much a delta from the given changeIds would move, or why there cannot be one (R9). */
  planDeltas(
    input: SourceRef & {
      snapshotMoRef: string;
      disks: { deviceKey: number; label: string; capacityBytes: number; sinceChangeId?: string }[];
    },
  ): Promise<{ deviceKey: number; bytes?: number; extents?: number; reset?: string }[]>;
  /** @param mark What a finished migration leaves on the source; null takes it away. */
  markSource(input: SourceRef & { mark: string | null }): Promise<void>;
}

/** What is done to the target, except for moving data, and the steps that must see both sides. */
export interface TargetActivities {
  createTarget(input: TargetRef & { input: MigrationInput; source: SourceFacts }): Promise<{
    targetVmUuid: string;
    disks: { deviceKey: number; vdiUuid: string; vdiSizeBytes: number }[];
  }>;
  /** Destroys the doubted VDI and makes an empty one in its place (R8). */
  replaceTargetDisk(
    input: TargetRef & {
      targetVmUuid: string;
      vdiUuid: string;
      srUuid: string;
      deviceKey: number;
      label: string;
      capacityBytes: number;
      /** Place of the disk in the guest's order. */
      index: number;
    },
  ): Promise<{ vdiUuid: string; vdiSizeBytes: number }>;
  snapshotTarget(input: TargetRef & { targetVmUuid: string; name: string; pass: string }): Promise<TargetSnapshot>;
  destroyTargetSnapshot(input: TargetRef & { snapshotUuid: string }): Promise<void>;
  createTestCopy(
    input: TargetRef & { vm: string; snapshotUuid: string; nics: { mac: string }[]; srUuid: string },
  ): Promise<{ testVmUuid: string; networkUuid: string; srUsedBytesBefore: number }>;
  /** Starts it only when every VIF is on a network without PIF, and watches it run (S103, R23). */
  startTestCopy(input: TargetRef & { testVmUuid: string; stableSeconds: number }): Promise<BootEvidence>;
  /** What was started, looked at once more: whether it still runs, and what its guest reports by now. */
  observeStarted(input: TargetRef & { vmUuid: string }): Promise<BootEvidence>;
  /** Destroys clone, disks and network. @returns Whether the SR is seen to be as full as before (S110, S111). */
  destroyTestCopy(input: TargetRef & { srUuid: string; srUsedBytesBefore?: number }): Promise<boolean>;
  /** Blocks again what was to start. Where it never did, it is a copy in the making once more and `hasRun` is false. */
  withdrawTarget(
    input: TargetRef & { targetVmUuid: string; name: string; reason: string },
  ): Promise<{ hasRun: boolean }>;
  /** Restores the name, removes the block, starts it, and watches it run. */
  startTarget(
    input: TargetRef & { targetVmUuid: string; name: string; source: SourceRef; stableSeconds: number },
  ): Promise<BootEvidence>;
  /** Stops and blocks what ran, and takes the mark of a finished migration from it; it keeps its data (R24). */
  retireTarget(input: TargetRef & { targetVmUuid: string; name: string; reason: string }): Promise<void>;
  destroyTarget(input: TargetRef): Promise<void>;
  finishTarget(input: TargetRef & { targetVmUuid: string; name: string; instanceUuid: string }): Promise<void>;
  /** Every object of ours that is still there on either side and is not meant to stay: side, object, how to remove it. */
  /** @throws TargetBusy while the target runs or may start: both sides never run at once (R11). */
  restoreSourcePower(input: SourceRef & { pool: string; powerState: string; targetVmUuid?: string }): Promise<void>;
  listLeftovers(input: SourceRef & TargetRef & { keep: string[] }): Promise<string[]>;
}

/** What runs on the transfer workers: the only activities that touch block data. */
export interface TransferActivities {
  probeTransports(): Promise<TransportProbe>;
  probeReach(input: { addresses: Address[] }): Promise<Finding[]>;
  copyDisk(input: CopyDiskInput): Promise<PassFigures>;
  verifyDisk(input: VerifyDiskInput): Promise<Verdict>;
  mendDisk(input: MendDiskInput): Promise<{ bytesSent: number }>;
}
