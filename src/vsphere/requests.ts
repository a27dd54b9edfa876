import { fieldsOf, isA, parametersOf, type Field } from './fields.js';
import { TYPES, type OperationName } from './schema.js';

/** A managed object reference: the server's handle of one object. */
export interface MoRef {
  type: string;
  value: string;
}

export function moRef(type: string, value: string): MoRef {
  return { type, value };
}

export function isMoRef(value: unknown): value is MoRef {
  const ref = value as MoRef | null;
  return typeof ref === 'object' && ref !== null && typeof ref.type === 'string' && typeof ref.value === 'string';
}

/**
 * Builds what npm `soap` serialises, key by key in the table's order, whatever order the caller wrote.
 *
 * npm `soap` puts elements on the wire in the order of keys (it reorders by the declared type only, and not at all
 * inside an object sent as a subtype), and a real server refuses elements that are out of order.
 *
 * @param args Parameters by name; objects sent as a subtype carry `$type`.
 * @throws Error on a name the table does not know, a missing one, or a value of the wrong kind: a mistake of ours.
 */
export function buildRequest(operation: OperationName, args: Record<string, unknown>): Record<string, unknown> {
  return ordered(operation, parametersOf(operation), args);
}

function ordered(where: string, fields: Field[], values: Record<string, unknown>): Record<string, unknown> {
  const unknown = Object.keys(values).filter((key) => key !== '$type' && !fields.some((field) => field.name === key));
  if (unknown.length > 0) throw new Error(`${where} has no field ${unknown.join(', ')}`);
  const out: Record<string, unknown> = {};
  for (const field of fields) {
    const value = values[field.name];
    if (value === undefined) {
      if (!field.optional && !field.repeated) throw new Error(`${where} needs ${field.name}`);
      continue;
    }
    const at = `${where}.${field.name}`;
    if (!field.repeated) out[field.name] = encode(at, field.type, value);
    else if (!Array.isArray(value)) throw new Error(`${at} is a list`);
    else if (value.length > 0) out[field.name] = value.map((item) => encode(at, field.type, item));
  }
  return out;
}

function encode(where: string, type: string, value: unknown): unknown {
  if (type === 'MoRef') {
    if (!isMoRef(value)) throw new Error(`${where} is a managed object reference`);
    return { attributes: { type: value.type }, $value: value.value };
  }
  if (type === 'anyType') return encodeAny(where, value);
  if (TYPES[type]) {
    if (typeof value !== 'object' || value === null) throw new Error(`${where} is a ${type}`);
    const actual = (value as { $type?: string }).$type ?? type;
    if (!isA(actual, type)) throw new Error(`${where} is a ${type}, not a ${actual}`);
    const body = ordered(actual, fieldsOf(actual), value as Record<string, unknown>);
    return actual === type ? body : { attributes: { 'xsi:type': actual }, ...body };
  }
  return encodeScalar(where, type, value);
}

function encodeScalar(where: string, type: string, value: unknown): unknown {
  const good =
    type === 'boolean'
      ? typeof value === 'boolean'
      : type === 'int' || type === 'long'
        ? Number.isSafeInteger(value)
        : typeof value === 'string';
  if (!good) throw new Error(`${where} is a ${type}, not ${typeof value}`);
  return value;
}

// npm soap 1.13 does not declare the `xsd` prefix in its envelope, so each use brings its own declaration.
function encodeAny(where: string, value: unknown): unknown {
  const type = { string: 'string', boolean: 'boolean', number: 'long' }[typeof value as string];
  if (!type) throw new Error(`${where} takes text, a number or a boolean`);
  return {
    attributes: { 'xmlns:xsd': 'http://www.w3.org/2001/XMLSchema', 'xsi:type': `xsd:${type}` },
    $value: String(value),
  };
}
