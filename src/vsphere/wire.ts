import type { MoRef } from './requests.js';

/** Shapes of normalised answers, as far as this folder reads them. Optional fields may really be absent. */
export interface ServiceContent {
  rootFolder: MoRef;
  propertyCollector: MoRef;
  viewManager?: MoRef;
  sessionManager?: MoRef;
  authorizationManager?: MoRef;
  eventManager?: MoRef;
  searchIndex?: MoRef;
  about: { fullName: string; apiType: string; apiVersion: string; instanceUuid?: string };
}

export interface RetrieveResult {
  token?: string;
  objects: {
    obj: MoRef;
    propSet: { name: string; val: unknown }[];
    missingSet: { path: string; fault: unknown }[];
  }[];
}

export interface TaskInfo {
  task: MoRef;
  name?: string;
  descriptionId: string;
  entityName?: string;
  state: 'queued' | 'running' | 'success' | 'error';
  error?: unknown;
  result?: unknown;
  progress?: number;
}

export interface Backing {
  $type: string;
  fileName?: string;
  datastore?: MoRef;
  backingObjectId?: string;
  diskMode?: string;
  thinProvisioned?: boolean;
  uuid?: string;
  changeId?: string;
  parent?: Backing;
  sharing?: string;
  keyId?: unknown;
  compatibilityMode?: string;
  descriptorFileName?: string;
  deviceName?: string;
  network?: MoRef;
  port?: { portgroupKey?: string };
}

export interface Device {
  $type: string;
  key: number;
  deviceInfo?: { label: string };
  backing?: Backing;
  connectable?: { connected: boolean };
  controllerKey?: number;
  unitNumber?: number;
  capacityInKB?: number;
  capacityInBytes?: number;
  nativeUnmanagedLinkedClone?: boolean;
  busNumber?: number;
  sharedBus?: string;
  macAddress?: string;
}

export interface SnapshotTree {
  snapshot: MoRef;
  name: string;
  description: string;
  createTime: string;
  childSnapshotList: SnapshotTree[];
}
