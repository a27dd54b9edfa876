import https from 'node:https';
import { XMLBuilder, XMLParser } from 'fast-xml-parser';
import soap from 'soap';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fieldsOf, isScalar, parametersOf, type Field } from '../../src/vsphere/fields.js';
import { buildRequest } from '../../src/vsphere/requests.js';
import { OPERATIONS, TYPES, type OperationName } from '../../src/vsphere/schema.js';
import { buildWsdl } from '../../src/vsphere/wsdl.js';
import { plainVm, startTestLab, type TestLab } from './lab.js';

const operations = Object.keys(OPERATIONS) as OperationName[];

/** A value for every field, down to a depth; keys in the reverse of the table's order. */
function sample(fields: Field[], depth = 0): Record<string, unknown> {
  const entries = fields
    .filter(({ type }) => depth < 3 || !TYPES[type])
    .map((field) => {
      const one = sampleOf(field.type, depth);
      return [field.name, field.repeated ? [one, one] : one];
    });
  return Object.fromEntries(entries.reverse());
}

function sampleOf(type: string, depth: number): unknown {
  if (type === 'MoRef') return { type: 'VirtualMachine', value: 'vm-0' };
  // The one place where we send a subtype.
  if (type === 'SelectionSpec') return { $type: 'TraversalSpec', ...sample(fieldsOf('TraversalSpec'), depth + 1) };
  if (!isScalar(type)) return sample(fieldsOf(type), depth + 1);
  return { boolean: true, int: 1, long: 1, dateTime: '2026-01-01T00:00:00Z' }[type] ?? 'text';
}

type Sender = (operation: OperationName, request: Record<string, unknown>) => Promise<string>;

/** Sends through npm soap; resolves to the request's text. `answer` gives the response's. */
async function createSender(answer: (xml: string, operation: string) => Promise<string>): Promise<Sender> {
  let sent = '';
  const httpClient = {
    request(_url: string, data: string, callback: (...args: unknown[]) => void) {
      sent = data;
      const operation = /<soap:Body><(?:\w+:)?(\w+)/.exec(data)?.[1] ?? '';
      answer(data, operation).then(
        (text) => callback(null, { status: 200, headers: {}, data: text }, text),
        (error: unknown) => callback(error),
      );
    },
  };
  const client = await soap.createClientAsync(buildWsdl(), {
    disableCache: true,
    httpClient: httpClient as unknown as soap.HttpClient,
  });
  return async (operation, request) => {
    const method = (client as unknown as Record<string, (request: unknown) => Promise<unknown>>)[`${operation}Async`];
    await method?.(request);
    return sent;
  };
}

const empty = async (_xml: string, operation: string) =>
  `<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body><${operation}Response ` +
  `xmlns="urn:vim25"/></soap:Body></soap:Envelope>`;

type Node = Record<string, unknown>;
const parser = new XMLParser({ preserveOrder: true, removeNSPrefix: true, ignoreAttributes: false });

function children(node: Node): { name: string; node: Node; type?: string }[] {
  const name = Object.keys(node).find((key) => key !== ':@') ?? '';
  return (node[name] as Node[]).map((child) => {
    const type = (child[':@'] as Record<string, string> | undefined)?.['@_type'];
    return { name: Object.keys(child).find((key) => key !== ':@') ?? '', node: child, ...(type ? { type } : {}) };
  });
}

/** Compares elements with the table, all the way down. */
function expectOrder(node: Node, fields: Field[], where: string): void {
  const found = children(node);
  const names = found.map(({ name }) => name).filter((name, index, all) => name !== all[index - 1]);
  expect(names, where).toEqual(fields.map(({ name }) => name).filter((name) => names.includes(name)));
  for (const child of found) {
    const type = fields.find(({ name }) => name === child.name)?.type ?? '';
    if (TYPES[type]) expectOrder(child.node, fieldsOf(child.type ?? type), `${where}.${child.name}`);
  }
}

describe('element order', () => {
  it.each(operations)("%s: whatever order the caller wrote, the table's order is sent", async (operation) => {
    const send = await createSender(empty);
    const fields = parametersOf(operation);
    const xml = await send(operation, buildRequest(operation, sample(fields)));
    const envelope = parser.parse(xml) as Node[];
    const body = envelope.flatMap((node) => ('Envelope' in node ? children(node) : [])).find((c) => c.name === 'Body');
    const call = children(body?.node ?? {})[0];
    expect(call?.name).toBe(operation);
    expectOrder(call?.node ?? {}, fields, operation);
    // Nothing was lost on the way: each parameter arrived.
    expect(new Set(children(call?.node ?? {}).map(({ name }) => name))).toEqual(new Set(fields.map((f) => f.name)));
  });

  it('refuses a field the table does not know, and a missing one', () => {
    const self = { type: 'VirtualMachine', value: 'vm-1' };
    expect(() => buildRequest('PowerOffVM_Task', { _this: self, force: true })).toThrow('has no field force');
    expect(() => buildRequest('CreateSnapshot_Task', { _this: self, name: 'x', memory: false })).toThrow('quiesce');
    expect(() => buildRequest('RevertToSnapshot_Task', { _this: 'vm-1' })).toThrow('managed object reference');
  });
});

describe('element order, as the server sees it', () => {
  let lab: TestLab;
  beforeAll(async () => {
    lab = await startTestLab({ vms: [plainVm('web01')] });
  });
  afterAll(() => lab?.end());

  function post(xml: string): Promise<string> {
    return new Promise((resolve, reject) => {
      // The answer to a malformed request is all we want; nothing secret is sent.
      const request = https.request(lab.url, { method: 'POST', rejectUnauthorized: false }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => resolve(Buffer.concat(chunks).toString()));
      });
      request.on('error', reject);
      request.end(xml);
    });
  }

  // The server parses a request before it asks for a session, so every operation can be tried without one.
  it.each(operations)("%s, with every field: the server's own schema finds nothing wrong", async (operation) => {
    let answer = '';
    const send = await createSender(async (xml, name) => {
      answer = await post(xml);
      return empty(xml, name);
    });
    await send(operation, buildRequest(operation, sample(parametersOf(operation))));
    expect(answer).toContain('Envelope');
    expect(answer).not.toMatch(/InvalidRequest|when expecting|Unexpected element|is missing from/);
  });

  const several = operations.filter((operation) => parametersOf(operation).length > 1);

  it.each(several)('%s, with its elements in reverse: refused', async (operation) => {
    const send = await createSender(empty);
    const xml = await send(operation, buildRequest(operation, sample(parametersOf(operation))));
    expect(await post(reversed(xml))).toMatch(/InvalidRequest/);
  });

  it('says which element is out of place', async () => {
    const send = await createSender(empty);
    const args = { _this: { type: 'VirtualMachine', value: 'vm-1' }, name: 'a', description: 'b', memory: false };
    const xml = await send('CreateSnapshot_Task', buildRequest('CreateSnapshot_Task', { ...args, quiesce: false }));
    const moved = xml.replace(/(<(\w+:)?description>.*?)(<(\w+:)?memory>.*?<\/(\w+:)?memory>)/, '$3$1');
    expect(moved).not.toBe(xml);
    expect(await post(moved)).toMatch(/Got .*description.* tag when expecting/);
  });
});

/** The same request with the parameters of its operation turned round. */
function reversed(xml: string): string {
  const options = { preserveOrder: true, ignoreAttributes: false, parseTagValue: false };
  const document = new XMLParser(options).parse(xml) as Node[];
  const inside = (nodes: Node[], suffix: string): Node[] => {
    const found = nodes.flatMap((node) => Object.entries(node).filter(([name]) => name.endsWith(suffix)));
    return (found[0]?.[1] ?? []) as Node[];
  };
  const [call] = inside(inside(document, ':Envelope'), ':Body');
  const parameters = Object.entries(call ?? {}).find(([name]) => name !== ':@')?.[1] as Node[];
  parameters.reverse();
  return new XMLBuilder(options).build(document);
}
