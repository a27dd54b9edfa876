import { randomUUID } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { blankRow, classes, NULL_REF, type Row, type Value } from './datamodel.js';
import { deriveAllowedOperations } from './allowed-operations.js';
import { XapiError } from './errors.js';
import { listOf } from './values.js';

/** `[class, field, class it points to, field there that lists who points]`: invariant 3, kept by the database. */
const BACK_REFERENCES: [cls: string, field: string, target: string, list: string][] = [
  ['VBD', 'VM', 'VM', 'VBDs'],
  ['VBD', 'VDI', 'VDI', 'VBDs'],
  ['VIF', 'VM', 'VM', 'VIFs'],
  ['VIF', 'network', 'network', 'VIFs'],
  ['VDI', 'SR', 'SR', 'VDIs'],
  ['VDI', 'snapshot_of', 'VDI', 'snapshots'],
  ['VM', 'snapshot_of', 'VM', 'snapshots'],
  ['VM', 'parent', 'VM', 'children'],
  ['VM', 'resident_on', 'host', 'resident_VMs'],
  ['VTPM', 'VM', 'VM', 'VTPMs'],
  ['console', 'VM', 'VM', 'consoles'],
  ['PBD', 'host', 'host', 'PBDs'],
  ['PBD', 'SR', 'SR', 'PBDs'],
  ['PIF', 'host', 'host', 'PIFs'],
  ['PIF', 'network', 'network', 'PIFs'],
  ['task', 'subtask_of', 'task', 'subtasks'],
];

/** Gone after a restart, as in XAPI. */
const TRANSIENT = new Set(['session', 'task']);

/** Deletions kept for clients whose event token is old. */
const TOMBSTONES = 10_000;

export interface Tombstone {
  cls: string;
  ref: string;
  generation: number;
}

/**
 * The pool's database: every record has exactly the datamodel's fields, every change gets a generation number,
 * and what must survive is written to one JSON file by `flush`, atomically.
 */
export class Database {
  generation = 1;
  readonly tombstones: Tombstone[] = [];
  readonly #file: string;
  readonly #tables = new Map<string, Map<string, Row>>();
  readonly #generations = new Map<string, { created: number; changed: number }>();
  readonly #listeners = new Set<() => void>();
  #dirty = false;
  #isClosed = false;

  constructor(file: string) {
    this.#file = file;
    for (const cls of classes.keys()) this.#tables.set(cls, new Map());
  }

  /** Reads the file of an earlier run. False where there is none. */
  load(): boolean {
    let text;
    try {
      text = readFileSync(this.#file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
      throw error;
    }
    const saved = JSON.parse(text) as { generation: number; tables: Record<string, Record<string, Row>> };
    this.generation = saved.generation + 1;
    for (const [cls, rows] of Object.entries(saved.tables)) {
      for (const [ref, row] of Object.entries(rows)) {
        this.#table(cls).set(ref, row);
        this.#generations.set(ref, { created: this.generation, changed: this.generation });
      }
    }
    return true;
  }

  /** Writes what changed. Called before any answer leaves, so that an answered call survives kill -9. */
  flush(): void {
    if (!this.#dirty || this.#isClosed) return;
    this.#dirty = false;
    const tables: Record<string, Record<string, Row>> = {};
    for (const [cls, rows] of this.#tables) if (!TRANSIENT.has(cls)) tables[cls] = Object.fromEntries(rows);
    writeFileSync(`${this.#file}.new`, JSON.stringify({ generation: this.generation, tables }));
    renameSync(`${this.#file}.new`, this.#file);
  }

  /** Writes for the last time: what late timers still change is as lost as after a crash. */
  close(): void {
    this.flush();
    this.#isClosed = true;
  }

  /** Makes a record of defaults plus `fields`, with a new uuid unless one is given. */
  create(cls: string, fields: Row, ref = `OpaqueRef:${randomUUID()}`): string {
    const row = blankRow(cls);
    if ('uuid' in row) row['uuid'] = randomUUID();
    this.#table(cls).set(ref, row);
    this.#generations.set(ref, { created: ++this.generation, changed: this.generation });
    this.set(cls, ref, fields);
    return ref;
  }

  /** @throws HANDLE_INVALID where the object is gone. The row is live: change it through `set` only. */
  get(cls: string, ref: string): Row {
    const row = this.find(cls, ref);
    if (row === undefined) throw new XapiError('HANDLE_INVALID', [cls, ref]);
    return row;
  }

  find(cls: string, ref: string): Row | undefined {
    return this.#table(cls).get(ref);
  }

  entries(cls: string): [ref: string, row: Row][] {
    return [...this.#table(cls)];
  }

  count(cls: string): number {
    return this.#table(cls).size;
  }

  /** @throws UUID_INVALID */
  byUuid(cls: string, uuid: string): string {
    for (const [ref, row] of this.#table(cls)) if (row['uuid'] === uuid) return ref;
    throw new XapiError('UUID_INVALID', [cls, uuid]);
  }

  /** Changes fields; back references on the other side follow, and both sides make events. */
  set(cls: string, ref: string, fields: Record<string, Value>): void {
    const row = this.get(cls, ref);
    const strange = Object.keys(fields).find((field) => !(field in row));
    if (strange !== undefined) throw new Error(`The datamodel's ${cls} has no field ${strange}.`);
    for (const [from, field, target, list] of BACK_REFERENCES) {
      if (from !== cls || !(field in fields) || fields[field] === row[field]) continue;
      this.#unlist(target, row[field] as string, list, ref);
      const other = this.find(target, fields[field] as string);
      if (other !== undefined) {
        other[list] = [...listOf(other, list), ref];
        this.touch(target, fields[field] as string);
      }
    }
    Object.assign(row, fields);
    this.touch(cls, ref);
  }

  delete(cls: string, ref: string): void {
    const row = this.find(cls, ref);
    if (row === undefined) return;
    for (const [from, field, target, list] of BACK_REFERENCES) {
      if (from === cls) this.#unlist(target, row[field] as string, list, ref);
      // Those who pointed at the deleted object point nowhere now.
      if (target === cls) {
        for (const pointing of listOf(row, list)) {
          if (this.find(from, pointing) !== undefined) this.set(from, pointing, { [field]: NULL_REF });
        }
      }
    }
    this.#table(cls).delete(ref);
    this.#generations.delete(ref);
    this.tombstones.push({ cls, ref, generation: ++this.generation });
    if (this.tombstones.length > TOMBSTONES) this.tombstones.shift();
    this.#announce(cls);
  }

  /** Gives the row a new generation, so that watchers see it. */
  touch(cls: string, ref: string): void {
    const known = this.#generations.get(ref);
    if (known === undefined) return;
    known.changed = ++this.generation;
    deriveAllowedOperations(this, cls, ref);
    this.#announce(cls);
  }

  /** Generations in which the object was made and last changed. */
  generationsOf(ref: string): { created: number; changed: number } {
    return this.#generations.get(ref) ?? { created: 0, changed: 0 };
  }

  /** Forgets all sessions and tasks, as a restart of XAPI does. */
  forgetTransient(): void {
    for (const cls of TRANSIENT) for (const [ref] of this.entries(cls)) this.delete(cls, ref);
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #announce(cls: string): void {
    if (!TRANSIENT.has(cls)) this.#dirty = true;
    for (const listener of this.#listeners) listener();
  }

  #unlist(cls: string, ref: string, list: string, gone: string): void {
    const other = this.find(cls, ref);
    if (other === undefined) return;
    other[list] = listOf(other, list).filter((item) => item !== gone);
    this.touch(cls, ref);
  }

  #table(cls: string): Map<string, Row> {
    const table = this.#tables.get(cls);
    if (table === undefined) throw new Error(`The database has no table ${cls}.`);
    return table;
  }
}
