import type { LoginGuard } from '../shared/login-guard.js';

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
  guard?: LoginGuard;
  /** How often an idle session is kept alive; 0 turns it off. Default 5 minutes (servers drop sessions after 30). */
  keepAliveMs?: number;
  /** How often a running task is looked at. Default 1 second. */
  pollMs?: number;
}

export interface About {
  apiVersion: string;
  productName: string;
  /** A host by itself, without a vCenter. */
  isEsxi: boolean;
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

export interface ToolsState {
  installed: boolean;
  running: boolean;
  /** The server's own word, such as `guestToolsCurrent`. */
  versionStatus: string;
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
  datastore?: { name: string; type: string; freeBytes: number; accessible: boolean };
  controllerType: DiskControllerType;
  controllerBus: number;
  unitNumber: number;
  /** `persistent`, `independent_persistent`, ... */
  mode: string;
  kind: DiskKind;
  /** The server's type name of the backing, for messages. */
  backingType: string;
  /** Whether other VMs may write to it: by its multi-writer flag or over a shared bus. */
  sharing: 'none' | 'multiWriter' | 'sharedBus';
  encrypted: boolean;
  /** Present only when the chain below the VM's own files belongs to another VM. */
  linkedCloneOf?: string;
}

export interface SourceNic {
  label: string;
  /** Lower case, with colons. */
  mac: string;
  /** Name of the network or port group. */
  networkName: string;
  /** `vmxnet3`, `e1000`, `e1000e`, `pcnet32`, `vmxnet2`, `sriov` or `unknown`. */
  type: string;
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
  name: string;
  instanceUuid: string;
  /** Inventory path of the datacenter, as `/folder` and VDDK want it. */
  datacenterPath: string;
  powerState: PowerState;
  connectionState: string;
  isTemplate: boolean;
  /** ISO 8601; absent while powered off. */
  bootTime?: string;
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
  /** It is encrypted, and its key is not there. */
  cryptoLocked: boolean;
  changeTrackingEnabled: boolean;
  changeTrackingSupported: boolean;
  consolidationNeeded: boolean;
  faultTolerance: boolean;
  /** Text of a question the VM waits with, if any. */
  pendingQuestion?: string;
  /** Methods that cannot be called now: by its power state, or because another product holds it. */
  disabledMethods: string[];
  /** Types of devices that tie the VM to its host, such as `VirtualPCIPassthrough`. */
  passthroughDevices: string[];
  /** Key of the extension that manages it, such as `com.vmware.vim.eam`. */
  managedBy?: string;
  /** `name` is also the address that VDDK reads through. */
  host: { name: string; connected: boolean; inMaintenance: boolean; apiVersion: string };
  tools: ToolsState;
  /** In the order a guest sees them: controller class, bus, unit. */
  disks: SourceDisk[];
  nics: SourceNic[];
  hasCdDrive: boolean;
  /** Flattened tree, parents before children. */
  snapshots: SnapshotInfo[];
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

/** Common to every method that waits for a task. */
export interface TaskWait {
  /** Called about once per poll while a task runs. */
  onProgress?: (progress: TaskProgress) => void;
  /** From an earlier attempt: waited for first, before anything is issued again. */
  taskMoRef?: string;
  /** Stops the waiting, never the task. */
  signal?: AbortSignal;
}

export interface TaskProgress {
  /** Handle to wait for the same task again after a restart. */
  taskMoRef: string;
  state: 'queued' | 'running' | 'success' | 'error';
}

/** A method on one VM that waits for a task. */
export type OnVm = { vmMoRef: string } & TaskWait;
