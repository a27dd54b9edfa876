import { XMLParser } from 'fast-xml-parser';
import { classSpec, type TypeSpec, type Value } from './datamodel.js';
import { asXapiError, XapiError } from './errors.js';

const ANY: TypeSpec = { kind: 'any' };

// Order is kept and nothing is guessed: texts such as "007" must stay texts.
const parser = new XMLParser({
  preserveOrder: true,
  ignoreAttributes: true,
  parseTagValue: false,
  trimValues: false,
  processEntities: true,
  htmlEntities: true,
});

type Node = Record<string, unknown>;

/** Method name and arguments of an XML-RPC request. Numbers stay decimal texts: XAPI's own integers are untyped. */
export function parseXmlCall(text: string): { method: string; params: unknown[] } {
  const root = childrenOf(parser.parse(text) as Node[], 'methodCall');
  if (root === undefined) throw new XapiError('XMLRPC_UNMARSHAL_FAILURE', ['methodCall', text.slice(0, 100)]);
  const params = (childrenOf(root, 'params') ?? []).filter((node) => 'param' in node);
  return {
    method: textOfNodes(childrenOf(root, 'methodName') ?? []).trim(),
    params: params.map((node) => parseValue(childrenOf(node['param'] as Node[], 'value') ?? [])),
  };
}

function childrenOf(nodes: Node[], tag: string): Node[] | undefined {
  return nodes.find((node) => tag in node)?.[tag] as Node[] | undefined;
}

function textOfNodes(nodes: Node[]): string {
  return nodes.map((node) => String(node['#text'] ?? '')).join('');
}

function parseValue(nodes: Node[]): unknown {
  const typed = nodes.find((node) => !('#text' in node));
  if (typed === undefined) return textOfNodes(nodes);
  const [tag = ''] = Object.keys(typed);
  const inner = typed[tag] as Node[];
  switch (tag) {
    case 'boolean':
      return textOfNodes(inner).trim() === '1';
    case 'struct': {
      const members = inner.filter((node) => 'member' in node).map((node) => node['member'] as Node[]);
      return Object.fromEntries(
        members.map((member) => [
          textOfNodes(childrenOf(member, 'name') ?? []),
          parseValue(childrenOf(member, 'value') ?? []),
        ]),
      );
    }
    case 'array': {
      const data = childrenOf(inner, 'data') ?? [];
      return data.filter((node) => 'value' in node).map((node) => parseValue(node['value'] as Node[]));
    }
    case 'nil':
      return null;
    default:
      return textOfNodes(inner);
  }
}

function escape(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
}

/** `<value>...</value>` as XAPI writes it: integers are untyped text, dates and floats are typed. */
export function formatXmlValue(value: Value, type: TypeSpec = ANY): string {
  return `<value>${inner(value, type)}</value>`;
}

function inner(value: Value, type: TypeSpec): string {
  if (typeof value === 'boolean') return `<boolean>${value ? 1 : 0}</boolean>`;
  if (typeof value === 'number') {
    return type.kind === 'float' || !Number.isInteger(value) ? `<double>${value}</double>` : String(value);
  }
  if (typeof value === 'string') {
    return type.kind === 'datetime' ? `<dateTime.iso8601>${value}</dateTime.iso8601>` : escape(value);
  }
  if (Array.isArray(value)) {
    const of = type.kind === 'set' ? type.of : ANY;
    return `<array><data>${value.map((item) => formatXmlValue(item, of)).join('')}</data></array>`;
  }
  const members = Object.entries(value).map(
    ([name, item]) => `<member><name>${escape(name)}</name>${formatXmlValue(item, memberType(type, name))}</member>`,
  );
  return `<struct>${members.join('')}</struct>`;
}

function memberType(type: TypeSpec, name: string): TypeSpec {
  if (type.kind === 'map') return type.value;
  return (type.kind === 'record' ? classSpec(type.cls).fields.get(name)?.type : undefined) ?? ANY;
}

/** The whole answer; `bare` for `system.listMethods`, whose list comes without the Status struct. */
export function formatXmlSuccess(value: Value, type: TypeSpec, bare: boolean): string {
  const formatted = formatXmlValue(value, type);
  const status = `<member><name>Status</name><value>Success</value></member>`;
  return response(
    bare ? formatted : `<value><struct>${status}<member><name>Value</name>${formatted}</member></struct></value>`,
  );
}

export function formatXmlFailure(error: unknown): string {
  const { code, params } = asXapiError(error);
  return response(formatXmlValue({ Status: 'Failure', ErrorDescription: [code, ...params] }));
}

function response(value: string): string {
  return `<?xml version="1.0"?><methodResponse><params><param>${value}</param></params></methodResponse>`;
}
