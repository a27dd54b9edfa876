import type { ToolsState } from './scenario.js';

/** One link of a disk's chain, newest first. */
export interface LabLink {
  /** `[datastore] dir/disk-000001.vmdk` */
  name: string;
  /** Its raw sparse file on this machine. In a delta, holes show the parent. */
  file: string;
  /** MoRef of the snapshot that shows this link frozen, if any. */
  snapshot?: string;
}

export interface LabDisk {
  deviceKey: number;
  capacityBytes: number;
  /** Name of the newest link, as vSphere shows it. */
  name: string;
  /** The base extent: all of the disk once no snapshot is left (R37's `source`). */
  base: string;
  /** File that takes the guest's writes now. */
  current: string;
  chain: LabLink[];
  /** Empty where nothing is tracked. */
  changeId: string;
}

export interface LabVm {
  name: string;
  moRef: string;
  powerState: 'poweredOn' | 'poweredOff' | 'suspended';
  /** When the guest last started; null while the VM is off. */
  bootTime: string | null;
  tools: ToolsState;
  /** Oldest first. */
  snapshots: { moRef: string; name: string; description: string }[];
  disks: LabDisk[];
}

/** One request that reached the server: a SOAP method, or GET/HEAD of a /folder path. */
export interface LabCall {
  time: string;
  method: string;
  object: string;
}

/** A moment in which a VM went on or off, whoever did it. */
export interface LabPowerChange {
  time: string;
  /** Its MoRef. */
  vm: string;
  state: LabVm['powerState'];
}

/** Makes the next `count` calls of a method slow, or fail, or lose their answer. */
export interface LabRule {
  /** `CreateSnapshotEx_Task`, `Login`, `/folder`, ... */
  method: string;
  /** Only requests that hold all these values; a snapshot's MoRef stands for its name and its VM as well. */
  about?: string[];
  /** Default 1. */
  count?: number;
  /** Delay before the call or task goes on. */
  seconds?: number;
  /** Name of a vim25 fault type. */
  fault?: string;
  /** Fields of the fault. */
  detail?: Record<string, unknown>;
  /** The call itself fails, also where its task could. */
  call?: boolean;
  /** The server does it, but the connection breaks before the answer. */
  lost?: boolean;
}

/** Client of the admin endpoint: plays the guest, its administrator, the storage and misfortune. VMs by name or MoRef. */
export class VsphereAdmin {
  readonly #adminUrl: string;

  constructor(adminUrl: string) {
    this.#adminUrl = adminUrl;
  }

  vms(): Promise<LabVm[]> {
    return this.#request('GET', '/vms') as Promise<LabVm[]>;
  }

  /** @throws Error when there is no such VM. */
  async vm(name: string): Promise<LabVm> {
    const found = (await this.vms()).find((vm) => vm.name === name || vm.moRef === name);
    if (found === undefined) throw new Error(`The lab has no VM "${name}".`);
    return found;
  }

  async powerState(vm: string): Promise<LabVm['powerState']> {
    return (await this.vm(vm)).powerState;
  }

  /** The guest writes; refused unless the VM runs. `offset` in bytes. */
  async guestWrite(vm: string, deviceKey: number, offset: number, data: Uint8Array): Promise<void> {
    await this.#request('POST', `${path(vm)}/write?disk=${deviceKey}&offset=${offset}`, data);
  }

  async setTools(vm: string, state: ToolsState): Promise<void> {
    await this.#request('POST', `${path(vm)}/tools`, { state });
  }

  /** The guest restarts: a new `runtime.bootTime`, still running. */
  async reboot(vm: string): Promise<void> {
    await this.#request('POST', `${path(vm)}/reboot`);
  }

  /** The guest powers itself off, Tools or not. */
  async shutdown(vm: string): Promise<void> {
    await this.#request('POST', `${path(vm)}/shutdown`);
  }

  /** A new tracking epoch on every disk: all changeIds so far are void. */
  async resetTracking(vm: string): Promise<void> {
    await this.#request('POST', `${path(vm)}/reset-tracking`);
  }

  /** Somebody holds the VM's files open: nothing is consolidated. */
  async setLocked(vm: string, locked: boolean): Promise<void> {
    await this.#request('POST', `${path(vm)}/lock`, { locked });
  }

  /**
   * Sets one property as JSON, e.g. `runtime.connectionState` of a VM or `runtime.inMaintenanceMode` of a host; lasts
   * until the lab restarts.
   * @param object Name or MoRef of anything in the inventory, also `LicenseManager`.
   */
  async setProperty(object: string, property: string, value: unknown): Promise<void> {
    await this.#request('POST', `/objects/${encodeURIComponent(object)}/property`, { path: property, value });
  }

  /** Takes rights away from the account, or with an empty list gives them back. */
  async denyPrivileges(denied: string[]): Promise<void> {
    await this.#request('POST', '/privileges', { denied });
  }

  async setFreeSpace(datastore: string, bytes: number): Promise<void> {
    await this.#request('POST', `/datastores/${encodeURIComponent(datastore)}`, { freeSpace: bytes });
  }

  async setPaging(paging: { extents?: number; span?: number }): Promise<void> {
    await this.#request('POST', '/paging', paging);
  }

  /** Keys (the cookies' values) of all sessions that ever asked for something, ended ones too. */
  async sessions(): Promise<string[]> {
    return ((await this.#request('GET', '/sessions')) as string[] | null) ?? [];
  }

  /** @returns How many sessions ended. */
  expireSessions(): Promise<number> {
    return this.#request('POST', '/sessions/expire') as Promise<number>;
  }

  async addRule(rule: LabRule): Promise<void> {
    await this.#request('POST', '/rules', rule);
  }

  /** The rules that have not been used up. */
  rules(): Promise<LabRule[]> {
    return this.#request('GET', '/rules') as Promise<LabRule[]>;
  }

  /** When each VM went on and off, oldest first. */
  async powerChanges(): Promise<LabPowerChange[]> {
    return ((await this.#request('GET', '/power')) as LabPowerChange[] | null) ?? [];
  }

  async clearRules(): Promise<void> {
    await this.#request('DELETE', '/rules');
  }

  async calls(): Promise<LabCall[]> {
    return ((await this.#request('GET', '/calls')) as LabCall[] | null) ?? [];
  }

  async clearCalls(): Promise<void> {
    await this.#request('DELETE', '/calls');
  }

  async #request(method: string, where: string, body?: unknown): Promise<unknown> {
    const content = body === undefined || body instanceof Uint8Array ? body : JSON.stringify(body);
    const response = await fetch(this.#adminUrl + where, { method, ...(content !== undefined && { body: content }) });
    const text = await response.text();
    if (!response.ok) throw new Error(`The lab's vCenter refused ${method} ${where}: ${text.trim()}`);
    return JSON.parse(text);
  }
}

function path(vm: string): string {
  return `/vms/${encodeURIComponent(vm)}`;
}
