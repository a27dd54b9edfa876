import type { AdminFault, VdiPlace, VmPlace } from './admin-server.js';
import type { LoggedCall } from './call-log.js';
import type { Fault } from './faults.js';
import type { ImportRecord } from './import-log.js';
import type { PowerChange } from './pool.js';

export type { AdminFault, Fault, ImportRecord, LoggedCall, PowerChange, VdiPlace, VmPlace };

/** Typed client of the admin endpoint, for tests and the demo. */
export class XcpngAdmin {
  readonly #url: string;

  /** @param url `adminUrl` of the pool. */
  constructor(url: string) {
    this.#url = url;
  }

  /** Every API call so far, oldest first. */
  calls(): Promise<LoggedCall[]> {
    return this.#ask('GET', '/calls');
  }

  /** When each VM went on and off, oldest first. */
  power(): Promise<PowerChange[]> {
    return this.#ask('GET', '/power');
  }

  /** The faults that have not been used up. */
  faults(): Promise<Fault[]> {
    return this.#ask('GET', '/faults');
  }

  /** References of all sessions so far, ended ones too. */
  sessions(): Promise<string[]> {
    return this.#ask('GET', '/sessions');
  }

  /** Every PUT so far, those of earlier processes on this state as well, with its chunks. */
  imports(): Promise<ImportRecord[]> {
    return this.#ask('GET', '/imports');
  }

  /** The VDIs' raw files, by uuid. */
  vdis(): Promise<Record<string, VdiPlace>> {
    return this.#ask('GET', '/vdis');
  }

  /** The VMs' serial console logs and processes, by uuid. */
  vms(): Promise<Record<string, VmPlace>> {
    return this.#ask('GET', '/vms');
  }

  /** Arms a fault, or does at once what `restart`, `expireSessions`, `destroyTask` or `clear` say. */
  fault(fault: AdminFault): Promise<Fault[]> {
    return this.#ask('POST', '/faults', fault);
  }

  /** Types into a running guest's serial console. */
  type(vmUuid: string, text: string): Promise<{ typed: boolean }> {
    return this.#ask('POST', '/console', { vm: vmUuid, text });
  }

  async #ask<T>(method: string, path: string, body?: unknown): Promise<T> {
    const init = body === undefined ? { method } : { method, body: JSON.stringify(body) };
    const response = await fetch(this.#url + path, init);
    if (!response.ok) throw new Error(`The lab's pool refused ${method} ${path}: ${await response.text()}`);
    return (await response.json()) as T;
  }
}
