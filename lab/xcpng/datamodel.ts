import raw from './datamodel.json' with { type: 'json' };

/** A value as the database and JSON-RPC hold it. Dates, enums and references are text. */
export type Value = string | number | boolean | Value[] | { [key: string]: Value };
/** One object's fields. */
export type Row = Record<string, Value>;

/** A type of the datamodel, parsed. `any` is what has no shape there, such as an event batch. */
export type TypeSpec =
  | { kind: 'string' | 'int' | 'float' | 'bool' | 'datetime' | 'void' | 'any' }
  | { kind: 'enum'; name: string }
  | { kind: 'ref' | 'record'; cls: string }
  | { kind: 'set'; of: TypeSpec }
  | { kind: 'map'; key: TypeSpec; value: TypeSpec };

/** A field: `ro` is the server's, `const` is set by the constructor only, `rw` has setters. */
export interface FieldSpec {
  type: TypeSpec;
  access: 'ro' | 'rw' | 'const';
  /** What a new record holds, and what a constructor uses where the client says nothing. */
  initial: Value;
  /** False: a constructor that gets no value for it fails. */
  hasDefault: boolean;
}

export interface MessageSpec {
  params: { name: string; type: TypeSpec }[];
  result: TypeSpec;
}

export interface ClassSpec {
  name: string;
  fields: Map<string, FieldSpec>;
  messages: Map<string, MessageSpec>;
}

interface RawModel {
  classes: Record<
    string,
    {
      fields: Record<string, string[]>;
      messages: Record<string, { params: [string, string][]; result: string }>;
    }
  >;
  enums: Record<string, string[]>;
}

export const NULL_REF = 'OpaqueRef:NULL';
export const EPOCH = '19700101T00:00:00Z';

const model = raw as unknown as RawModel;
const SCALARS = new Set(['string', 'int', 'float', 'bool', 'datetime', 'void']);

/** Parses a type as the datamodel writes it, such as `(string -> VDI ref) map`. */
export function parseType(text: string): TypeSpec {
  if (text.endsWith(') map')) {
    const [key = '', ...value] = text.slice(1, -5).split(' -> ');
    return { kind: 'map', key: parseType(key), value: parseType(value.join(' -> ')) };
  }
  if (text.endsWith(' set')) return { kind: 'set', of: parseType(text.slice(0, -4)) };
  if (text.endsWith(' ref')) return { kind: 'ref', cls: text.slice(0, -4) };
  if (text.endsWith(' record')) return { kind: 'record', cls: text.slice(0, -7) };
  if (text.startsWith('enum ')) return { kind: 'enum', name: text.slice(5) };
  return SCALARS.has(text) ? ({ kind: text } as TypeSpec) : { kind: 'any' };
}

/** The values an enum allows. */
export function enumValues(name: string): readonly string[] {
  return model.enums[name] ?? [];
}

function zeroOf(type: TypeSpec): Value {
  switch (type.kind) {
    case 'int':
    case 'float':
      return 0;
    case 'bool':
      return false;
    case 'set':
      return [];
    case 'map':
      return {};
    case 'ref':
      return NULL_REF;
    case 'datetime':
      return EPOCH;
    case 'enum':
      return enumValues(type.name)[0] ?? '';
    default:
      return '';
  }
}

function parseDefault(type: TypeSpec, text: string): Value {
  const unquote = (quoted: string): string => quoted.trim().replace(/^"|"$/g, '');
  const inner = text.replace(/^\{|\}$/g, '');
  switch (type.kind) {
    case 'set':
      return inner === '' ? [] : inner.split(',').map((item) => parseDefault(type.of, item));
    case 'map':
      return inner === ''
        ? {}
        : Object.fromEntries(inner.split(', ').map((pair) => pair.split(' -> ').map(unquote) as [string, string]));
    case 'int':
    case 'float':
      return Number(text);
    case 'bool':
      return text === 'true';
    case 'ref':
      return NULL_REF;
    default:
      return unquote(text);
  }
}

/** Fields that XCP-ng's builds have and the published datamodel of that day has not. */
const XCPNG_FIELDS: Record<string, Record<string, string[]>> = {
  SM: { supported_image_formats: ['string set', 'ro', '{}'] },
};

function parseClass(name: string): ClassSpec {
  const source = model.classes[name];
  const fields = new Map<string, FieldSpec>();
  for (const [field, [typeText = '', access = 'ro', initial]] of Object.entries({
    ...source?.fields,
    ...XCPNG_FIELDS[name],
  })) {
    const type = parseType(typeText);
    fields.set(field, {
      type,
      access: access as FieldSpec['access'],
      initial: initial === undefined ? zeroOf(type) : parseDefault(type, initial),
      hasDefault: initial !== undefined,
    });
  }
  const messages = new Map<string, MessageSpec>();
  for (const [message, spec] of Object.entries(source?.messages ?? {})) {
    messages.set(message, {
      params: spec.params.map(([param, type]) => ({ name: param, type: parseType(type) })),
      result: parseType(spec.result),
    });
  }
  return { name, fields, messages };
}

/** All classes by their name, which is case-sensitive in calls. */
export const classes: ReadonlyMap<string, ClassSpec> = new Map(
  Object.keys(model.classes).map((name) => [name, parseClass(name)]),
);

/** The class of that name; a mistake in our own code where there is none. */
export function classSpec(name: string): ClassSpec {
  const found = classes.get(name);
  if (found === undefined) throw new Error(`The datamodel has no class ${name}.`);
  return found;
}

/** A record with exactly the datamodel's fields, each with its default. */
export function blankRow(cls: string): Row {
  const row: Row = {};
  for (const [name, field] of classSpec(cls).fields) row[name] = structuredClone(field.initial);
  return row;
}
