import type { Extent } from '../shared/types.js';
import type { Finding } from '../shared/findings.js';
import type {
  PresentedCertificate,
  About,
  PowerState,
  VmSummary,
  SnapshotInfo,
  SourceVm,
  SnapshotDisk,
} from './source-types.js';

export type * from './source-types.js';

/** What a running task reports; the activity heartbeats it. */
export interface TaskProgress {
  /** Handle to wait for the same task again after a restart. */
  taskMoRef: string;
  /** The server's name of the task, such as `CreateSnapshot_Task`. */
  operation: string;
  state: 'queued' | 'running' | 'success' | 'error';
  /** 0-100; absent when the server does not say. */
  percent?: number;
}

/** Common to every method that waits for a task. */
export interface TaskWait {
  /** Called about once per poll; also the place to heartbeat. */
  onProgress?: (progress: TaskProgress) => void;
  /** From an earlier attempt's heartbeat: waited for first, before anything is issued again. */
  taskMoRef?: string;
  /** Stops the waiting, never the task. */
  signal?: AbortSignal;
}

export interface EnsureSnapshotInput extends TaskWait {
  vmMoRef: string;
  /** Shown in the vSphere client, such as `vm starting point`. */
  name: string;
  /** Our id, kept in the description; a snapshot of the same name without it is foreign. */
  ownerId: string;
  /** Sentence for people, put in front of the id. */
  description?: string;
  quiesce?: boolean;
}

export interface EnsuredSnapshot {
  snapshotMoRef: string;
  createTime: string;
  /** True when it existed already. */
  adopted: boolean;
}

export interface ChangedAreasInput {
  vmMoRef: string;
  /** May be left out only while the VM is off. */
  snapshotMoRef?: string;
  deviceKey: number;
  /** From the earlier snapshot, or `*` for everything allocated. */
  changeId: string;
  /** Capacity in the snapshot's config. */
  capacityBytes: number;
}

export interface SourceEvent {
  time: string;
  /** The server's type name, such as `VmPoweredOffEvent`. */
  type: string;
  message: string;
  userName: string;
}

/**
 * One vCenter or ESXi host, for as many callers as like to share it. Logs in at the first call and again, once per
 * call, when the session has expired.
 *
 * Every method may throw the failure types AuthenticationFailed, CertificateChanged, ConnectionFailed, SourceNotFound
 * (the object is gone), SourceRefused (rights, state or space; another attempt cannot help), SourceBusy (another task
 * or a lock; another attempt may help) and SourceTaskFailed.
 */
export interface Vsphere {
  about(): Promise<About>;
  /** The certificate the server presents; equal to the pin where one is given. VDDK wants its `thumbprintSha1`. */
  certificate(): Promise<PresentedCertificate>;
  listVms(): Promise<VmSummary[]>;
  inspectVm(input: { vmMoRef: string }): Promise<SourceVm>;
  /** Finds a VM by what survives re-registration. Null when there is none. */
  findVm(input: { instanceUuid: string }): Promise<{ vmMoRef: string } | null>;

  /** Disks as the snapshot froze them, with the changeIds that count (R1, R2). Independent disks are not among them. */
  snapshotDisks(input: { snapshotMoRef: string }): Promise<SnapshotDisk[]>;
  /** The snapshot tree, flattened, parents before children. */
  listSnapshots(input: { vmMoRef: string }): Promise<SnapshotInfo[]>;
  /** May run twice: adopts a snapshot of that name whose description carries `ownerId`, or a task still creating it. */
  ensureSnapshot(input: EnsureSnapshotInput): Promise<EnsuredSnapshot>;
  /** May run twice: a snapshot that is gone is removed. Its children stay. */
  removeSnapshot(input: { snapshotMoRef: string } & TaskWait): Promise<void>;
  /** Removes exactly these, children before parents. Used for an approved list. */
  removeSnapshots(input: { vmMoRef: string; snapshotMoRefs: string[] } & TaskWait): Promise<void>;
  /**
   * Ends when the VM says it needs no consolidation, asking for it where needed.
   * @throws ConsolidationBlocked when the files stay locked by someone else.
   */
  waitForConsolidation(input: { vmMoRef: string; attempts?: number } & TaskWait): Promise<void>;
  /** Everything written since is lost, and the tracking epoch ends (R7). The VM is left off. */
  revertToSnapshot(input: { snapshotMoRef: string } & TaskWait): Promise<void>;

  /** Sets the VM's wish; tracking begins or ends at the next stun. Says whether anything changed. */
  setChangeTracking(input: { vmMoRef: string; enabled: boolean } & TaskWait): Promise<{ changed: boolean }>;
  /**
   * Everything that differs between `changeId` and the snapshot: sorted, disjoint, kind `data`, touching ones merged.
   * @throws ChangeTrackingReset when the position is not valid any more: the disk needs a full pass (R8).
   * @throws ChangedAreasInvalid when the answer contradicts itself or the disk.
   */
  queryChangedAreas(input: ChangedAreasInput): Promise<Extent[]>;

  powerState(input: { vmMoRef: string }): Promise<PowerState>;
  /** Asks the guest to shut down and returns at once; off already is success. @throws ToolsUnavailable */
  shutdownGuest(input: { vmMoRef: string }): Promise<void>;
  /** Pulls the plug; off already is success. */
  powerOff(input: { vmMoRef: string } & TaskWait): Promise<void>;
  /** On already is success. */
  powerOn(input: { vmMoRef: string } & TaskWait): Promise<void>;

  /** Leaves a text in the VM's configuration (`surefire.migration`); null removes it. */
  setMark(input: { vmMoRef: string; mark: string | null } & TaskWait): Promise<void>;
  readMark(input: { vmMoRef: string }): Promise<string | null>;

  /** Events of one VM, oldest first, at most a hundred. */
  recentEvents(input: { vmMoRef: string; since: string }): Promise<SourceEvent[]>;
  /** Asks the server which rights the plan needs and the account lacks (S72). Empty when all are there. */
  checkPrivileges(): Promise<Finding[]>;

  /** Address of the flat file under `/folder` for a base disk `[datastore] dir/name.vmdk`. No I/O. */
  diskUrl(input: { baseFileName: string; datacenterPath: string }): string;
  /**
   * `vmware_soap_session=...`, checked to be alive. Keep it out of argv and logs.
   * @param input.refused A cookie the server just refused: a new session is made unless somebody has already done so.
   */
  sessionCookie(input?: { refused?: string }): Promise<string>;

  /** Logs out and closes connections. May run twice. */
  close(): Promise<void>;
}
