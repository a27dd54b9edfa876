import type { Extent } from '../shared/types.js';
import type { Finding } from '../shared/findings.js';

/** How to reach one vCenter or ESXi host. The password never leaves the session. */
export interface VsphereOptions {
  /** Address of the SOAP service, such as `https://vcenter.example.com/sdk`; `/sdk` is added when the path is empty. */
  url: string;
  username: string;
  password: string;
  /** SHA-256 of the server's certificate, `AA:BB:...` (case and colons do not matter). A different one is refused. */
  fingerprintSha256?: string;
  /** PEM file with the authorities to trust instead of the system's; ignored when a fingerprint is given. */
  caFile?: string;
  /** How often an idle session is kept alive; 0 turns it off. Default 5 minutes (servers drop sessions after 30). */
  keepAliveMs?: number;
  /** How often a running task is looked at. Default 1 second. */
  pollMs?: number;
}

/** The server's certificate, as it presented it, before anyone has decided to trust it. */
export interface PresentedCertificate {
  pem: string;
  /** `AA:BB:...`, what `fingerprintSha256` is compared with. */
  fingerprintSha256: string;
  /** `AA:BB:...`, what VDDK calls the thumbprint. */
  thumbprintSha1: string;
  subject: string;
  issuer: string;
  validTo: string;
  selfSigned: boolean;
}

export interface About {
  /** Identity of this vCenter; empty on a stand-alone ESXi host. */
  instanceUuid: string;
  apiVersion: string;
  productName: string;
  isVcenter: boolean;
}

export type PowerState = 'poweredOn' | 'poweredOff' | 'suspended';

export interface VmSummary {
  moRef: string;
  name: string;
  powerState: PowerState;
  instanceUuid: string;
  /** Folders from the datacenter down, such as `DC0/vm/Prod`. */
  folderPath: string;
  guestFullName: string;
  /** Sum of the disks' capacities. */
  diskTotalBytes: number;
  diskCount: number;
  toolsStatus: 'running' | 'notRunning' | 'notInstalled';
}

export interface NamedRef {
  name: string;
  moRef: string;
}

export interface ToolsState {
  installed: boolean;
  running: boolean;
  /** The server's own word, such as `guestToolsCurrent`. */
  versionStatus: string;
  /** `guestToolsTypeMSI`, `guestToolsTypeOpenVMTools`...; absent when not known. */
  installType?: string;
}

export type DiskControllerType = 'ide' | 'sata' | 'nvme' | 'pvscsi' | 'lsilogic' | 'lsisas' | 'buslogic' | 'unknown';

export type DiskKind = 'flat' | 'flatV1' | 'sesparse' | 'sparse' | 'rdmVirtual' | 'rdmPhysical' | 'pmem' | 'unknown';

export interface SourceDisk {
  /** Number of the disk inside its VM; stable across snapshots. */
  deviceKey: number;
  /** `Hard disk 1`. */
  label: string;
  capacityBytes: number;
  /** The file written to now, `[datastore] dir/name-000001.vmdk`. */
  fileName: string;
  /** The file at the bottom of the chain; equal to `fileName` when no snapshot exists. */
  baseFileName: string;
  datastore?: { name: string; moRef: string; type: string; freeBytes: number; accessible: boolean };
  controllerType: DiskControllerType;
  controllerBus: number;
  unitNumber: number;
  /** `persistent`, `independent_persistent`, ... */
  mode: string;
  kind: DiskKind;
  /** The server's type name of the backing, for messages. */
  backingType: string;
  /** True when other VMs may write to it: multi-writer flag or a shared bus. */
  sharing: 'none' | 'multiWriter' | 'sharedBus';
  encrypted: boolean;
  thin: boolean;
  uuid?: string;
  /** Files in the chain; 1 means no parent. */
  backingDepth: number;
  /** Present only when the chain below the VM's own files belongs to another VM. */
  linkedCloneOf?: string;
  /** Present when tracking is really active on this disk (the live value; take the snapshot's for deltas). */
  changeId?: string;
}

export interface SourceNic {
  deviceKey: number;
  label: string;
  /** Lower case, with colons. */
  mac: string;
  /** Name of the network or port group. */
  networkName: string;
  /** `vmxnet3`, `e1000`, `e1000e`, `pcnet32`, `vmxnet2`, `sriov` or `unknown`. */
  type: string;
  connected: boolean;
}

export interface SnapshotInfo {
  moRef: string;
  name: string;
  description: string;
  /** ISO 8601. */
  createTime: string;
  parentMoRef?: string;
  /** Disk space its own files take, as far as the server says. */
  sizeBytes?: number;
}

export interface SourceVm {
  moRef: string;
  name: string;
  instanceUuid: string;
  biosUuid: string;
  /** Inventory path of the datacenter, as `/folder` and VDDK want it. */
  datacenterPath: string;
  folderPath: string;
  powerState: PowerState;
  connectionState: string;
  isTemplate: boolean;
  /** ISO 8601; absent while powered off. */
  bootTime?: string;
  guestId: string;
  guestFullName: string;
  isWindows: boolean;
  /** `vmx-19` is 19. */
  hardwareVersion: number;
  cpuCount: number;
  coresPerSocket: number;
  memoryBytes: number;
  firmware: 'bios' | 'uefi';
  secureBoot: boolean;
  hasVtpm: boolean;
  /** The VM's own files are encrypted. */
  encrypted: boolean;
  changeTrackingEnabled: boolean;
  changeTrackingSupported: boolean;
  consolidationNeeded: boolean;
  faultTolerance: boolean;
  /** Text of a question the VM waits with, if any. */
  pendingQuestion?: string;
  /** Methods another product has disabled, such as `CreateSnapshot_Task`. */
  disabledMethods: string[];
  /** Types of devices that tie the VM to its host, such as `VirtualPCIPassthrough`. */
  passthroughDevices: string[];
  host: { name: string; moRef: string; inMaintenance: boolean };
  guestHostName?: string;
  guestIps: string[];
  tools: ToolsState;
  /** In the order a guest sees them: controller class, bus, unit. */
  disks: SourceDisk[];
  nics: SourceNic[];
  cdDrives: { deviceKey: number; label: string; connected: boolean; fileName?: string }[];
  /** Flattened tree, parents before children. */
  snapshots: SnapshotInfo[];
  /** The notes field people read in the vSphere client. */
  annotation: string;
  /** What `setMark` left, if a migration finished here before. */
  mark?: string;
}

export interface SnapshotDisk {
  deviceKey: number;
  /** The frozen file of this snapshot. */
  fileName: string;
  /** Present when the frozen file is itself a delta on another. */
  parentFileName?: string;
  baseFileName: string;
  /** Absent when tracking was not active at this snapshot. */
  changeId?: string;
  capacityBytes: number;
}

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
