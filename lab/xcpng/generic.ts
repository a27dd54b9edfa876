import { classSpec, type Row, type Value } from './datamodel.js';
import { XapiError } from './errors.js';
import type { Behaviour } from './methods.js';
import type { Call } from './pool.js';
import { acceptValue, isStruct, listOf, mapOf } from './values.js';

// The methods every class has, generated from the datamodel's fields.

export function getRecord(cls: string): Behaviour {
  return ({ pool }: Call, ref: string) => pool.db.get(cls, ref);
}

export function getByUuid(cls: string): Behaviour {
  return ({ pool }: Call, uuid: string) => pool.db.byUuid(cls, uuid);
}

export function getAll(cls: string): Behaviour {
  return ({ pool }: Call) => pool.db.entries(cls).map(([ref]) => ref);
}

export function getAllRecords(cls: string): Behaviour {
  return ({ pool }: Call) => Object.fromEntries(pool.db.entries(cls));
}

/** Understands `true` and conjunctions of `field "name__label" = "text"`; that is what clients of the procedure send. */
export function getAllRecordsWhere(cls: string): Behaviour {
  return ({ pool }: Call, expression: string) => {
    const conditions = expression.trim() === 'true' ? [] : expression.split(/\s+and\s+/).map(parseCondition);
    const fits = (row: Row): boolean => conditions.every(([field, wanted]) => String(row[field]) === wanted);
    return Object.fromEntries(pool.db.entries(cls).filter(([, row]) => fits(row)));
  };
}

function parseCondition(text: string): [field: string, wanted: string] {
  const match = /^\(?\s*field\s+"(\w+)"\s*=\s*"((?:[^"\\]|\\.)*)"\s*\)?$/.exec(text.trim());
  if (match === null) throw new XapiError('NOT_IMPLEMENTED', [`get_all_records_where with ${text}`]);
  const [, field = '', wanted = ''] = match;
  return [field.replace(/__/g, '_'), wanted.replace(/\\(.)/g, '$1')];
}

export function getByNameLabel(cls: string): Behaviour {
  return ({ pool }: Call, label: string) =>
    pool.db
      .entries(cls)
      .filter(([, row]) => row['name_label'] === label)
      .map(([ref]) => ref);
}

export function getField(cls: string, field: string): Behaviour {
  return ({ pool }: Call, ref: string) => pool.db.get(cls, ref)[field];
}

export function setField(cls: string, field: string): Behaviour {
  return ({ pool }: Call, ref: string, value: Value) => pool.db.set(cls, ref, { [field]: value });
}

export function addToMap(cls: string, field: string): Behaviour {
  return ({ pool }: Call, ref: string, key: string, value: Value) => {
    const map = mapOf(pool.db.get(cls, ref), field);
    if (Object.hasOwn(map, key)) throw new XapiError('MAP_DUPLICATE_KEY', [cls, field, ref, key]);
    pool.db.set(cls, ref, { [field]: { ...map, [key]: value } });
  };
}

/** Succeeds where the key is missing. */
export function removeFromMap(cls: string, field: string): Behaviour {
  return ({ pool }: Call, ref: string, key: string) => {
    const { [key]: _removed, ...rest } = mapOf(pool.db.get(cls, ref), field);
    pool.db.set(cls, ref, { [field]: rest });
  };
}

export function addToSet(cls: string, field: string): Behaviour {
  return ({ pool }: Call, ref: string, value: string) => {
    const set = listOf(pool.db.get(cls, ref), field);
    if (!set.includes(value)) pool.db.set(cls, ref, { [field]: [...set, value] });
  };
}

export function removeFromSet(cls: string, field: string): Behaviour {
  return ({ pool }: Call, ref: string, value: string) => {
    const set = listOf(pool.db.get(cls, ref), field);
    pool.db.set(cls, ref, { [field]: set.filter((item) => item !== value) });
  };
}

/**
 * Takes a constructor's struct: the fields a client may set, checked, with defaults where there are some (invariant 4).
 *
 * @throws INTERNAL_ERROR naming the first missing field that has no default.
 */
export function constructorFields(cls: string, record: unknown): Row {
  if (!isStruct(record)) throw new XapiError('FIELD_TYPE_ERROR', ['record']);
  const fields: Row = {};
  for (const [name, field] of classSpec(cls).fields) {
    if (field.access === 'ro') continue;
    if (Object.hasOwn(record, name)) fields[name] = acceptValue(field.type, record[name], name);
    else if (field.hasDefault) fields[name] = structuredClone(field.initial);
    else throw new XapiError('INTERNAL_ERROR', [`Server_helpers.Dispatcher_FieldNotFound("${name}")`]);
  }
  return fields;
}
