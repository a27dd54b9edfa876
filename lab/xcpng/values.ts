import { enumValues, type Row, type TypeSpec, type Value } from './datamodel.js';
import { XapiError } from './errors.js';

/**
 * Takes a client's argument as the datamodel's type; integers may come as decimal text, as XML-RPC clients send them.
 *
 * @param field Named in the error.
 * @throws FIELD_TYPE_ERROR where the value is of another type.
 */
export function acceptValue(type: TypeSpec, value: unknown, field: string): Value {
  const refuse = (): never => {
    throw new XapiError('FIELD_TYPE_ERROR', [field]);
  };
  switch (type.kind) {
    case 'string':
    case 'datetime':
    case 'ref':
      return typeof value === 'string' ? value : refuse();
    case 'enum':
      return typeof value === 'string' && enumValues(type.name).includes(value) ? value : refuse();
    case 'int': {
      const number = typeof value === 'string' && /^-?\d+$/.test(value) ? Number(value) : value;
      return Number.isSafeInteger(number) ? (number as number) : refuse();
    }
    case 'float': {
      const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value;
      return typeof number === 'number' && !Number.isNaN(number) ? number : refuse();
    }
    case 'bool':
      return typeof value === 'boolean' ? value : refuse();
    case 'set':
      return Array.isArray(value) ? value.map((item) => acceptValue(type.of, item, field)) : refuse();
    case 'map': {
      if (!isStruct(value)) return refuse();
      const result: Row = {};
      for (const [key, item] of Object.entries(value)) {
        acceptValue(type.key, key, field);
        result[key] = acceptValue(type.value, item, field);
      }
      return result;
    }
    default:
      return value as Value;
  }
}

/** True for a JSON object or XML-RPC struct. */
export function isStruct(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Now, or another moment, as XAPI writes it: `20260821T02:00:23Z`. */
export function formatDate(date: Date = new Date()): string {
  return date
    .toISOString()
    .replace(/-/g, '')
    .replace(/\.\d+Z$/, 'Z');
}

// Typed looks into a row. The datamodel guarantees the types, the compiler cannot know them.

export function textOf(row: Row, field: string): string {
  return row[field] as string;
}
export function numberOf(row: Row, field: string): number {
  return row[field] as number;
}
export function flagOf(row: Row, field: string): boolean {
  return row[field] === true;
}
export function listOf(row: Row, field: string): string[] {
  return row[field] as string[];
}
export function mapOf(row: Row, field: string): Record<string, string> {
  return row[field] as Record<string, string>;
}
