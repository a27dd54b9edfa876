import { calls } from './calls/index.js';
import { classes, type ClassSpec, type FieldSpec, type TypeSpec, type Value } from './datamodel.js';
import { XapiError } from './errors.js';
import * as generic from './generic.js';
import type { Call } from './pool.js';

/** What a method does. Arguments have been checked against the datamodel's types before. */
export type Behaviour = (call: Call, ...args: never[]) => Value | void | Promise<Value | void>;

/** One callable method. */
export interface Method {
  name: string;
  params: { name: string; type: TypeSpec }[];
  /** Fewer arguments than `params` are accepted down to this many. */
  minParams: number;
  result: TypeSpec;
  /** False for logins and `system.listMethods`. */
  needsSession: boolean;
  /** Exists as `Async.` too. */
  hasAsync: boolean;
  run: Behaviour;
}

/** Classes whose objects no client can ask for in general. */
const NO_GENERIC = new Set(['event', 'vdi_nbd_server_info']);
const NO_LISTS = new Set(['session']);
const NAMED = (spec: ClassSpec): boolean => spec.fields.has('name_label');

/** Classes with `create` and `destroy` made of their fields; others have these as messages or not at all. */
const CONSTRUCTED = new Set(['VM', 'VDI', 'VBD', 'VIF', 'network', 'PBD', 'secret']);

/** Trailing parameters that were added over time and may be left out. */
const MIN_PARAMS: Record<string, number> = {
  'session.login_with_password': 2,
  'VM.snapshot': 2,
  'VDI.snapshot': 1,
  'VDI.clone': 1,
  'VDI.copy': 2,
};

const NO_SESSION = new Set(['session.login_with_password', 'session.slave_local_login_with_password']);
const STRING: TypeSpec = { kind: 'string' };
const VOID: TypeSpec = { kind: 'void' };

/** Callable on real hosts though the public datamodel is silent about them. */
const HIDDEN: Record<string, { params: Method['params']; result: TypeSpec }> = {
  'VDI.checksum': { params: [{ name: 'self', type: { kind: 'ref', cls: 'VDI' } }], result: STRING },
};

/** Every method of the pool by name, without the `Async.` forms. */
export const methods: ReadonlyMap<string, Method> = buildMethods();

/** The same by the older spelling, `event_from`, which Python needs: `from` is one of its own words. */
const olderSpelling: ReadonlyMap<string, Method> = new Map(
  [...methods].map(([name, method]) => [name.replace('.', '_'), method]),
);

/** The method of that name in either spelling. */
export function methodNamed(name: string): Method | undefined {
  return methods.get(name) ?? olderSpelling.get(name);
}

/** All names, as `system.listMethods` gives them. */
export function methodNames(): string[] {
  const names = ['system.listMethods'];
  for (const [name, method] of methods) {
    names.push(name);
    if (method.hasAsync) names.push(`Async.${name}`);
  }
  return names;
}

function buildMethods(): Map<string, Method> {
  const table = new Map<string, Method>();
  const add = (name: string, params: Method['params'], result: TypeSpec, fallback?: Behaviour, hasAsync = false) => {
    const run: Behaviour =
      calls[name] ??
      fallback ??
      (() => {
        throw new XapiError('NOT_IMPLEMENTED', [name]);
      });
    const minParams = MIN_PARAMS[name] ?? params.length;
    table.set(name, { name, params, minParams, result, needsSession: !NO_SESSION.has(name), hasAsync, run });
  };
  for (const spec of classes.values()) {
    if (!NO_GENERIC.has(spec.name)) addGeneric(spec, add);
    for (const [message, { params, result }] of spec.messages) {
      const name = `${spec.name}.${message}`;
      // A setter the datamodel lists as a message is the plain one unless behaviour is written for it.
      const field = message.startsWith('set_') && params.length === 2 ? spec.fields.get(message.slice(4)) : undefined;
      const plain = field === undefined ? table.get(name)?.run : generic.setField(spec.name, message.slice(4));
      const isAsync = !table.has(name) && !['session', 'event', 'task'].includes(spec.name);
      add(name, params, result, plain, isAsync);
    }
  }
  for (const [name, { params, result }] of Object.entries(HIDDEN)) {
    if (!table.has(name)) add(name, params, result, undefined, true);
  }
  return table;
}

type Add = (name: string, params: Method['params'], result: TypeSpec, run?: Behaviour, hasAsync?: boolean) => void;

function addGeneric(spec: ClassSpec, add: Add): void {
  const cls = spec.name;
  const ref: TypeSpec = { kind: 'ref', cls };
  const record: TypeSpec = { kind: 'record', cls };
  const self = { name: 'self', type: ref };
  const records: TypeSpec = { kind: 'map', key: ref, value: record };
  add(`${cls}.get_record`, [self], record, generic.getRecord(cls));
  if (spec.fields.has('uuid')) {
    add(`${cls}.get_by_uuid`, [{ name: 'uuid', type: STRING }], ref, generic.getByUuid(cls));
  }
  if (!NO_LISTS.has(cls)) {
    add(`${cls}.get_all`, [], { kind: 'set', of: ref }, generic.getAll(cls));
    add(`${cls}.get_all_records`, [], records, generic.getAllRecords(cls));
    add(`${cls}.get_all_records_where`, [{ name: 'expr', type: STRING }], records, generic.getAllRecordsWhere(cls));
  }
  if (NAMED(spec)) {
    const label = { name: 'label', type: STRING };
    add(`${cls}.get_by_name_label`, [label], { kind: 'set', of: ref }, generic.getByNameLabel(cls));
  }
  for (const [name, field] of spec.fields) addField(cls, name, field, self, add);
  if (CONSTRUCTED.has(cls)) {
    add(`${cls}.create`, [{ name: 'record', type: { kind: 'any' } }], ref, undefined, true);
    add(`${cls}.destroy`, [self], VOID, undefined, true);
  }
}

function addField(cls: string, name: string, field: FieldSpec, self: Method['params'][0], add: Add): void {
  add(`${cls}.get_${name}`, [self], field.type, generic.getField(cls, name));
  if (field.access !== 'rw') return;
  const { type } = field;
  add(`${cls}.set_${name}`, [self, { name: 'value', type }], VOID, generic.setField(cls, name));
  if (type.kind === 'map') {
    const key = { name: 'key', type: type.key };
    const value = { name: 'value', type: type.value };
    add(`${cls}.add_to_${name}`, [self, key, value], VOID, generic.addToMap(cls, name));
    add(`${cls}.remove_from_${name}`, [self, key], VOID, generic.removeFromMap(cls, name));
  }
  if (type.kind === 'set') {
    const value = { name: 'value', type: type.of };
    add(`${cls}.add_${name}`, [self, value], VOID, generic.addToSet(cls, name));
    add(`${cls}.remove_${name}`, [self, value], VOID, generic.removeFromSet(cls, name));
  }
}
