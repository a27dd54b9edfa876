import type { Finding } from './findings.js';
import type { Firmware, Transport, Word } from './migration-input.js';
import type { DiskState } from './passes.js';
import type { Outcome, Stage, WaitingFor } from './stages.js';

/** What a migration tells of itself, under way and when it has ended. */
interface MigrationFacts {
  schema: 1;
  vm: string;
  /** The workflow id. */
  migrationId: string;
  outcome: Outcome;
  firmware?: Firmware;
  transport?: Transport;
  disks: DiskState[];
  artifacts: Artifacts;
  findings: Finding[];
  stages: StageRecord[];
  record: RecordEntry[];
  notes: Note[];
  downtime?: Downtime;
  testEvidence?: BootEvidence;
  targetEvidence?: BootEvidence;
}

/** Answer of the `status` query: a pure projection of the workflow's state. Fields are only ever added. */
export interface MigrationStatus extends MigrationFacts {
  /** Carried by every object that this run made, on both sides. */
  tag: string;
  stage: Stage;
  guideStage: string;
  since: string;
  waitingFor: WaitingFor;
  /** What the person has to do, in one sentence. */
  instruction?: string;
  /** Names of the updates that would be accepted now; `addNote` and `setLimit` are at any time. */
  allowed: string[];
  /** 0 to 100, never decreases. */
  percent: number;
  sourcePower?: { found: string; now: string };
  /** Set while somebody holds the migration. */
  paused?: Paused;
  /** Set while somebody limits how fast its disks move, all of them together. */
  limit?: { mibPerSecond: number; operator: string; at: string };
  /** What would be undone now, newest first. */
  undo: { kind: string; summary: string }[];
}

/** Result of a migration that succeeded; for the others it travels in the failure's details. */
export interface MigrationReport extends MigrationFacts {
  reason?: string;
  targetVmUuid?: string;
  /** Share of all bytes that moved before the power-off, 0 to 1 (S28). */
  warmShare?: number;
  /** What a person still has to remove or check; empty after a clean run. */
  leftovers: string[];
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

/** Objects that the migration made, by the side that holds them. */
export interface Artifacts {
  baselineSnapshot?: string;
  cleanSnapshot?: string;
  finalSnapshot?: string;
  targetVmUuid?: string;
  testVmUuid?: string;
  testNetworkUuid?: string;
  /** Newest last. */
  targetSnapshots: (TargetSnapshot & { name: string })[];
}

/** A VM snapshot on the target, and the disks it froze. */
export interface TargetSnapshot {
  uuid: string;
  disks: { deviceKey: number; vdiUuid: string }[];
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
