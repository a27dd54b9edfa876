import type { Row } from './datamodel.js';
import { asXapiError, type XapiError } from './errors.js';
import type { Pool } from './pool.js';
import { formatDate, mapOf, numberOf, textOf } from './values.js';

const COMPLETED_KEPT_MS = 65 * 60_000;
const COMPLETED_KEPT = 200;
const PENDING_KEPT_MS = 24 * 3_600_000;

/** Task records: made, finished once, collected as XAPI collects them (invariant 21). */
export class TaskKeeper {
  readonly #pool: Pool;
  /** When a pending task last showed progress. */
  readonly #grewAt = new Map<string, number>();
  /** Tasks destroyed while pending: gone once they finish. */
  readonly #doomed = new Set<string>();

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  create(label: string, description: string, hostRef: string): string {
    const ref = this.#pool.db.create('task', {
      name_label: label,
      name_description: description,
      created: formatDate(),
      status: 'pending',
      resident_on: hostRef,
      type: '<none/>',
    });
    this.#grewAt.set(ref, Date.now());
    return ref;
  }

  /** @param result An XML-RPC value as text: `<value>OpaqueRef:...</value>`, or empty. */
  succeed(ref: string, result = ''): void {
    this.#finish(ref, { status: 'success', progress: 1, result });
  }

  fail(ref: string, error: unknown): void {
    const { code, params }: XapiError = asXapiError(error);
    this.#finish(ref, { status: 'failure', progress: 1, error_info: [code, ...params] });
  }

  /** A client's `task.set_status`; a finished task keeps its status. */
  setStatus(ref: string, status: string): void {
    if (status === 'pending' || status === 'cancelling') {
      if (this.#isPending(ref)) this.#pool.db.set('task', ref, { status });
    } else this.#finish(ref, { status });
  }

  setProgress(ref: string, progress: number): void {
    const task = this.#pool.db.get('task', ref);
    if (progress > numberOf(task, 'progress')) this.#grewAt.set(ref, Date.now());
    if (this.#isPending(ref)) this.#pool.db.set('task', ref, { progress });
  }

  destroy(ref: string): void {
    this.#pool.db.get('task', ref);
    if (this.#isPending(ref)) this.#doomed.add(ref);
    else this.#forget(ref);
  }

  /** Marks the wish to cancel. Nothing in the import path looks at it. */
  cancel(ref: string): void {
    const task = this.#pool.db.get('task', ref);
    this.#pool.db.set('task', ref, { current_operations: { ...mapOf(task, 'current_operations'), [ref]: 'cancel' } });
  }

  /** One round of the garbage collector. */
  collect(now = Date.now()): void {
    const finished: [string, number][] = [];
    for (const [ref, task] of this.#pool.db.entries('task')) {
      if (this.#isPending(ref)) {
        if (now - (this.#grewAt.get(ref) ?? now) > PENDING_KEPT_MS) this.#forget(ref);
      } else finished.push([ref, dateOf(task)]);
    }
    finished.sort((a, b) => b[1] - a[1]);
    finished.forEach(([ref, at], index) => {
      if (index >= COMPLETED_KEPT || now - at > COMPLETED_KEPT_MS) this.#forget(ref);
    });
  }

  #isPending(ref: string): boolean {
    return ['pending', 'cancelling'].includes(textOf(this.#pool.db.get('task', ref), 'status'));
  }

  #finish(ref: string, fields: Row): void {
    // The task may have vanished meanwhile (restart, collector).
    if (this.#pool.db.find('task', ref) === undefined || !this.#isPending(ref)) return;
    this.#pool.db.set('task', ref, { ...fields, finished: formatDate(), current_operations: {} });
    if (this.#doomed.delete(ref)) this.#forget(ref);
  }

  #forget(ref: string): void {
    this.#grewAt.delete(ref);
    this.#pool.db.delete('task', ref);
  }
}

function dateOf(task: Row): number {
  const text = textOf(task, 'finished');
  return Date.parse(text.replace(/^(\d{4})(\d{2})(\d{2})T/, '$1-$2-$3T'));
}
