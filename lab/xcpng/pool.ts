import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { CallLog } from './call-log.js';
import { Database } from './db.js';
import { Faults } from './faults.js';
import { ImportLog } from './import-log.js';
import type { Value } from './datamodel.js';
import { Machines } from './machines.js';
import { TaskKeeper } from './tasks.js';
import { VdiFiles } from './vdi-files.js';
import { mapOf } from './values.js';

/** Waits of the real product, made short. */
export interface Timing {
  /** How long a control-domain VBD outlives its task (invariant 13). */
  detachLagMs: number;
  /** Delay of a refused login; some 5 s on a real host. */
  loginFailureDelayMs: number;
  /** How long the storage manager takes to coalesce after a snapshot is destroyed. */
  coalesceLagMs: number;
  /** How long a call waits for another operation on the same object before it gives up; up to 2 h on a real host. */
  operationWaitMs: number;
  /** What a guest has for a clean shutdown. */
  shutdownTimeoutMs: number;
}

export const DEFAULT_TIMING: Timing = {
  detachLagMs: 50,
  loginFailureDelayMs: 300,
  coalesceLagMs: 200,
  operationWaitMs: 30_000,
  shutdownTimeoutMs: 1_200_000,
};

/** What others may do to an import that writes now. */
export interface ImportUnderWay {
  /** As a restart would end it: no answer, no detachment. */
  abandon(): void;
  /** Takes the device away: the next write fails. */
  revoke(): void;
}

/** A moment in which a VM went on or off. */
export interface PowerChange {
  at: string;
  /** The VM's uuid. */
  vm: string;
  state: 'Running' | 'Halted';
}

/** Everything the simulated pool is made of; passed to every behaviour through its `Call`. */
export class Pool {
  readonly stateDir: string;
  readonly timing: Timing;
  readonly password: string;
  readonly db: Database;
  readonly vdis: VdiFiles;
  readonly tasks: TaskKeeper;
  readonly faults = new Faults();
  readonly calls = new CallLog();
  readonly imports: ImportLog;
  readonly machines: Machines;
  /** When each VM went on and off, oldest first, whoever did it. */
  readonly power: PowerChange[] = [];
  /** `host:port` by host ref, known once the listeners are open. */
  readonly authorities = new Map<string, string>();
  /** Certificate of each host in PEM, by reference. */
  readonly certificates = new Map<string, string>();
  /** Port of each host's NBD server, by reference. */
  readonly nbdPorts = new Map<string, number>();
  /** Detachments still to come; a restart forgets them and the VBDs stay. */
  readonly lagging = new Set<NodeJS.Timeout>();
  /** Imports that write now, by the VBD they write through. */
  readonly importsUnderWay = new Map<string, ImportUnderWay>();

  constructor(stateDir: string, password: string, timing: Partial<Timing> = {}) {
    mkdirSync(stateDir, { recursive: true });
    this.stateDir = stateDir;
    this.password = password;
    this.timing = { ...DEFAULT_TIMING, ...timing };
    this.db = new Database(join(stateDir, 'database.json'));
    this.imports = new ImportLog(join(stateDir, 'imports.jsonl'));
    this.vdis = new VdiFiles(join(stateDir, 'vdis'));
    this.tasks = new TaskKeeper(this);
    this.machines = new Machines(this);
  }

  get poolRef(): string {
    return this.db.entries('pool')[0]?.[0] ?? '';
  }

  get masterRef(): string {
    return this.db.get('pool', this.poolRef)['master'] as string;
  }

  /** The control domain of a host. */
  controlDomain(hostRef: string): string {
    const found = this.db.entries('VM').find(([, vm]) => vm['is_control_domain'] && vm['resident_on'] === hostRef);
    if (found === undefined) throw new Error(`Host ${hostRef} has no control domain.`);
    return found[0];
  }

  /** Hosts on which the SR is plugged in. */
  hostsOfSr(srRef: string): string[] {
    return this.db
      .entries('PBD')
      .filter(([, pbd]) => pbd['SR'] === srRef && pbd['currently_attached'])
      .map(([, pbd]) => pbd['host'] as string);
  }

  /** Adds or replaces entries of a map field. */
  patchMap(cls: string, ref: string, field: string, entries: Record<string, Value>): void {
    this.db.set(cls, ref, { [field]: { ...mapOf(this.db.get(cls, ref), field), ...entries } });
  }
}

/** One call's circumstances. */
export interface Call {
  pool: Pool;
  /** The host whose listener took the call. */
  hostRef: string;
  session: string;
  /** Set in an `Async.` call. */
  taskRef?: string;
}
