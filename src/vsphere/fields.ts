import { OPERATIONS, TYPES, type OperationName } from './schema.js';

/** Scalars of the schema, with the name XML Schema gives them. */
const SCALARS = ['string', 'boolean', 'int', 'long', 'dateTime', 'anyType'] as const;

export interface Field {
  name: string;
  type: string;
  optional: boolean;
  repeated: boolean;
}

function parseFields(text: string): Field[] {
  if (text.trim() === '') return [];
  return text.split(',').map((part) => {
    const match = /^\s*(\w+)([?*]?) (\w+)\s*$/.exec(part);
    if (!match) throw new Error(`schema table: "${part.trim()}" is not "name type"`);
    const [, name = '', mark, type = ''] = match;
    if (!isScalar(type) && type !== 'MoRef' && !TYPES[type]) throw new Error(`schema table: no type ${type} (${name})`);
    return { name, type, optional: mark === '?', repeated: mark === '*' };
  });
}

export function isScalar(type: string): boolean {
  return (SCALARS as readonly string[]).includes(type);
}

const cache = new Map<string, Field[]>();

/** Fields of a type in wire order, inherited ones first. */
export function fieldsOf(typeName: string): Field[] {
  let fields = cache.get(typeName);
  if (!fields) {
    const shape = TYPES[typeName];
    if (!shape) throw new Error(`schema table: no type ${typeName}`);
    fields = [...(shape.base ? fieldsOf(shape.base) : []), ...parseFields(shape.fields)];
    cache.set(typeName, fields);
  }
  return fields;
}

/** Fields a type adds to its base. */
export function ownFieldsOf(typeName: string): Field[] {
  return parseFields(TYPES[typeName]?.fields ?? '');
}

/** Parameters of an operation in wire order, `_this` first. */
export function parametersOf(operation: OperationName): Field[] {
  const shape = OPERATIONS[operation];
  const self: Field = { name: '_this', type: 'MoRef', optional: false, repeated: false };
  return [self, ...('takes' in shape ? parseFields(shape.takes) : [])];
}

/** What an operation answers with; null when the answer is empty. */
export function resultOf(operation: OperationName): Field | null {
  const shape = OPERATIONS[operation];
  if (!('returns' in shape)) return null;
  const repeated = shape.returns.endsWith('*');
  return { name: 'returnval', type: shape.returns.replace('*', ''), optional: true, repeated };
}

/** True when `typeName` is `base` or derived from it, as far as the table knows. */
export function isA(typeName: string, base: string): boolean {
  for (let at: string | undefined = typeName; at; at = TYPES[at]?.base) if (at === base) return true;
  return false;
}
