import { fieldsOf, type Field } from './fields.js';
import { TYPES } from './schema.js';
import type { MoRef } from './requests.js';

type Raw = Record<string, unknown>;

/**
 * Turns one value as npm `soap` parsed it into plain JSON values, by the table.
 *
 * Lists are always lists (empty when absent), numbers and booleans are converted, dates are ISO 8601 text, references
 * are `{type, value}`, and an object the server typed carries `$type`: the server's own name even where the table does
 * not know it (it is then read as the declared type). Fields outside the table are kept as text.
 */
export function normalise(type: string, raw: unknown): unknown {
  if (raw === undefined || raw === null) return undefined;
  const sentType = typeAttributeOf(raw);
  if (type === 'MoRef' || sentType === 'ManagedObjectReference') return normaliseRef(raw);
  if (type === 'anyType') return normaliseAny(sentType, raw);
  if (TYPES[type]) return normaliseObject(sentType ?? type, TYPES[sentType ?? ''] ? (sentType as string) : type, raw);
  return normaliseScalar(type, textOf(raw));
}

/** As `normalise`, for a field that may repeat. */
export function normaliseField(field: Field, raw: unknown): unknown {
  if (!field.repeated) return normalise(field.type, raw);
  if (raw === undefined || raw === null) return [];
  return (Array.isArray(raw) ? raw : [raw]).map((item) => normalise(field.type, item));
}

/** The `xsi:type` under whatever prefix the server chose, without its own prefix. A plain `type` is a reference's. */
export function typeAttributeOf(raw: unknown): string | undefined {
  if (typeof raw !== 'object' || raw === null) return undefined;
  const attributes = (raw as { attributes?: Raw }).attributes ?? {};
  const key = Object.keys(attributes).find((name) => name.endsWith(':type'));
  return key === undefined ? undefined : String(attributes[key]).replace(/^.*:/, '');
}

function normaliseRef(raw: unknown): MoRef {
  const attributes = (raw as { attributes?: Raw }).attributes ?? {};
  return { type: String(attributes['type'] ?? ''), value: String(textOf(raw)) };
}

function normaliseAny(sentType: string | undefined, raw: unknown): unknown {
  if (sentType === undefined) return textOf(raw);
  if (sentType.startsWith('ArrayOf')) {
    const item = sentType.slice('ArrayOf'.length);
    const type = item === 'ManagedObjectReference' ? 'MoRef' : TYPES[item] ? item : lowerFirst(item);
    const body = raw as Raw;
    return normaliseField({ name: item, type, optional: true, repeated: true }, body[item] ?? body[lowerFirst(item)]);
  }
  return normalise(sentType, raw);
}

function normaliseObject(sentType: string, knownType: string, raw: unknown): unknown {
  if (typeof raw !== 'object' || raw === null) return { $type: sentType };
  const body = raw as Raw;
  const out: Raw = { $type: sentType };
  const fields = fieldsOf(knownType);
  for (const field of fields) {
    const value = normaliseField(field, body[field.name]);
    if (value !== undefined) out[field.name] = value;
  }
  for (const [key, value] of Object.entries(body)) {
    if (key === 'attributes' || key === '$value' || key in out || fields.some((field) => field.name === key)) continue;
    out[key] = textOf(value);
  }
  return out;
}

function normaliseScalar(type: string, value: unknown): unknown {
  switch (type) {
    case 'boolean':
      return typeof value === 'boolean' ? value : value === 'true' || value === '1';
    case 'byte':
    case 'short':
    case 'int':
    case 'long':
    case 'float':
    case 'double':
      return Number(value);
    case 'dateTime':
      return value instanceof Date ? value.toISOString() : new Date(String(value)).toISOString();
    default:
      // An enumeration, a string, or a type the table does not know: text where there is text.
      return typeof value === 'object' ? value : String(value);
  }
}

function textOf(raw: unknown): unknown {
  if (typeof raw !== 'object' || raw === null || raw instanceof Date) return raw;
  if ('$value' in raw) return raw.$value;
  const keys = Object.keys(raw).filter((key) => key !== 'attributes');
  return keys.length === 0 ? '' : raw;
}

function lowerFirst(text: string): string {
  return text.slice(0, 1).toLowerCase() + text.slice(1);
}
