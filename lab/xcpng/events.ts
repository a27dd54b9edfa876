import { classes, type Row, type Value } from './datamodel.js';
import { XapiError } from './errors.js';
import type { Pool } from './pool.js';

const BATCH_MS = 30;
/** Events speak of classes in lower case. */
const byLowerCase = new Map([...classes.keys()].map((name) => [name.toLowerCase(), name]));
const WATCHABLE = [...classes.keys()].filter((name) => !['session', 'event', 'vdi_nbd_server_info'].includes(name));

type Interest = { cls: string; ref?: string };

function parseInterests(texts: string[]): Interest[] {
  return texts.flatMap((text) => {
    if (text === '*') return WATCHABLE.map((cls) => ({ cls }));
    const [name = '', ref] = text.split('/');
    const cls = byLowerCase.get(name.toLowerCase());
    if (cls === undefined) throw new XapiError('EVENT_SUBSCRIPTION_PARSE_FAILURE', [text]);
    return [ref === undefined ? { cls } : { cls, ref }];
  });
}

/** A position in the pool's history: two numbers of 20 digits, comparable as text. The second counts messages: none. */
export function formatToken(generation: number): string {
  return `${String(generation).padStart(20, '0')},${'0'.repeat(20)}`;
}

function parseToken(token: string): number {
  if (token === '') return 0;
  const match = /^(\d+),\d+$/.exec(token);
  if (match === null) throw new XapiError('EVENT_FROM_TOKEN_PARSE_FAILURE', [token]);
  return Number(match[1]);
}

/**
 * `event.from` (invariant 20): what changed since the token, as present state; intermediate states are not told.
 * Waits until there is something or the time is up.
 */
export async function eventsFrom(
  pool: Pool,
  session: string,
  classTexts: string[],
  token: string,
  timeoutSeconds: number,
): Promise<Value> {
  const interests = parseInterests(classTexts);
  const since = parseToken(token);
  const deadline = Date.now() + timeoutSeconds * 1000;
  for (;;) {
    if (pool.db.find('session', session) === undefined) throw new XapiError('SESSION_INVALID', [session]);
    const events = eventsSince(pool, interests, since);
    const remaining = deadline - Date.now();
    if (events.length > 0 || remaining <= 0) {
      return {
        events,
        valid_ref_counts: Object.fromEntries(WATCHABLE.map((cls) => [cls.toLowerCase(), pool.db.count(cls)])),
        token: formatToken(pool.db.generation),
      };
    }
    await changeOrTimeout(pool, remaining);
  }
}

function eventsSince(pool: Pool, interests: Interest[], since: number): Row[] {
  const { db } = pool;
  const events: (Row & { id: string })[] = [];
  const add = (generation: number, cls: string, operation: string, ref: string, snapshot?: Row): void => {
    const event = { id: String(generation), timestamp: '0.0', class: cls.toLowerCase(), operation, ref };
    events.push(snapshot === undefined ? event : { ...event, snapshot });
  };
  const wanted = (cls: string, ref: string): boolean =>
    interests.some((interest) => interest.cls === cls && (interest.ref === undefined || interest.ref === ref));
  for (const cls of new Set(interests.map((interest) => interest.cls))) {
    for (const [ref, row] of db.entries(cls)) {
      const { created, changed } = db.generationsOf(ref);
      if (changed > since && wanted(cls, ref)) add(changed, cls, created > since ? 'add' : 'mod', ref, row);
    }
  }
  if (since > 0) {
    for (const { cls, ref, generation } of db.tombstones) {
      if (generation > since && wanted(cls, ref)) add(generation, cls, 'del', ref);
    }
  }
  return events.sort((a, b) => Number(a.id) - Number(b.id));
}

/** Resolves shortly after the next change, so that changes that belong together arrive together. */
function changeOrTimeout(pool: Pool, ms: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, Math.min(ms, 2_147_483_000));
    timer.unref();
    const stop = pool.db.onChange(() => {
      stop();
      clearTimeout(timer);
      setTimeout(resolve, Math.min(BATCH_MS, ms));
    });
    function done(): void {
      stop();
      resolve();
    }
  });
}
