import { request } from 'node:https';
import { XMLParser } from 'fast-xml-parser';
import type { VsphereReady } from '../../lab/vsphere/start.js';
import { waitFor } from './wait-for.js';

// Written for the lab's proof: it shares no line with the product's client, so that one mistake cannot hide in both.
const parser = new XMLParser({
  ignoreAttributes: false,
  removeNSPrefix: true,
  parseTagValue: false,
  isArray: (name) => ['changedArea', 'propSet', 'VirtualDevice'].includes(name),
});

/** One element of an answer: text, or children by name; attributes have `@_` before their name. */
export interface XmlNode {
  [name: string]: XmlNode;
}

export interface HttpAnswer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: Buffer;
}

/** A vSphere client of few lines: XML by hand, one cookie. */
export class RawVim {
  cookie = '';
  readonly #lab: VsphereReady;

  constructor(lab: VsphereReady) {
    this.#lab = lab;
  }

  /** Any request to the server; the certificate is pinned. */
  http(method: string, path: string, headers: Record<string, string> = {}, body = ''): Promise<HttpAnswer> {
    return new Promise((resolve, reject) => {
      const options = { method, headers, rejectUnauthorized: false, agent: false };
      const call = request(new URL(path, this.#lab.url), options, (response) => {
        const socket = response.socket as import('node:tls').TLSSocket;
        if (socket.getPeerCertificate().fingerprint256 !== this.#lab.fingerprintSha256)
          reject(new Error('wrong certificate'));
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) }),
        );
      });
      call.on('error', reject);
      call.end(body);
    });
  }

  /** Calls a method with its arguments as XML; returns the response element. Throws the fault's type and text. */
  async call(type: string, moRef: string, method: string, xml = ''): Promise<XmlNode> {
    const envelope =
      '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">' +
      `<e:Body><${method} xmlns="urn:vim25"><_this type="${type}">${moRef}</_this>${xml}</${method}></e:Body></e:Envelope>`;
    const headers = { 'content-type': 'text/xml; charset="utf-8"', soapaction: '"urn:vim25/6.5"' };
    const answer = await this.http(
      'POST',
      '/sdk',
      this.cookie ? { ...headers, cookie: this.cookie } : headers,
      envelope,
    );
    const set = answer.headers['set-cookie']?.[0];
    if (set !== undefined) this.cookie = set.split(';')[0] ?? '';
    const body = (parser.parse(answer.body) as XmlNode)['Envelope']?.['Body'];
    const fault = body?.['Fault'];
    if (fault) throw new Error(`${Object.keys(fault['detail'] ?? {})[0]}: ${String(fault['faultstring'])}`);
    return body?.[`${method}Response`] ?? {};
  }

  async login(): Promise<void> {
    this.cookie = '';
    const { username, password } = this.#lab;
    const xml = `<userName>${escaped(username)}</userName><password>${escaped(password)}</password>`;
    await this.call('SessionManager', 'SessionManager', 'Login', xml);
  }

  /** One property's value, undefined where it is not set. */
  async property(type: string, moRef: string, path: string): Promise<XmlNode | undefined> {
    const xml =
      `<specSet><propSet><type>${type}</type><pathSet>${path}</pathSet></propSet>` +
      `<objectSet><obj type="${type}">${moRef}</obj></objectSet></specSet><options/>`;
    const answer = await this.call('PropertyCollector', 'propertyCollector', 'RetrievePropertiesEx', xml);
    const set = answer['returnval']?.['objects']?.['propSet'] as unknown as XmlNode[] | undefined;
    return set?.[0]?.['val'];
  }

  /** Runs a task to its end; returns its result's text. */
  async task(type: string, moRef: string, method: string, xml = ''): Promise<string> {
    const task = textOf((await this.call(type, moRef, method, xml))['returnval']);
    let info: XmlNode = {};
    await waitFor(async () => {
      info = (await this.property('Task', task, 'info')) ?? {};
      return ['success', 'error'].includes(textOf(info['state']));
    }, `the end of ${method}`);
    if (textOf(info['state']) === 'error') {
      throw new Error(
        `${method}: ${info['error']?.['fault']?.['@_type']}: ${textOf(info['error']?.['localizedMessage'])}`,
      );
    }
    return textOf(info['result']);
  }

  snapshot(vm: string, name: string): Promise<string> {
    return this.task('VirtualMachine', vm, 'CreateSnapshotEx_Task', `<name>${name}</name><memory>false</memory>`);
  }

  removeSnapshot(snapshot: string): Promise<string> {
    const xml = '<removeChildren>false</removeChildren><consolidate>true</consolidate>';
    return this.task('VirtualMachineSnapshot', snapshot, 'RemoveSnapshot_Task', xml);
  }

  /** Backing of one disk in a VM's or snapshot's configuration. */
  async backing(type: string, moRef: string, deviceKey: number): Promise<XmlNode> {
    const device = await this.property(type, moRef, `config.hardware.device[${deviceKey}]`);
    return device?.['backing'] ?? {};
  }

  /** All pages of QueryChangedDiskAreas: the areas in bytes, and how many of the pages were empty. */
  async changedAreas(vm: string, snapshot: string, deviceKey: number, changeId: string, capacityBytes: number) {
    const areas: { start: number; length: number }[] = [];
    let emptyPages = 0;
    for (let at = 0; at < capacityBytes;) {
      const page = await this.call(
        'VirtualMachine',
        vm,
        'QueryChangedDiskAreas',
        `<snapshot type="VirtualMachineSnapshot">${snapshot}</snapshot><deviceKey>${deviceKey}</deviceKey>` +
          `<startOffset>${at}</startOffset><changeId>${changeId}</changeId>`,
      );
      const found = (page['returnval']?.['changedArea'] ?? []) as unknown as XmlNode[];
      for (const area of found)
        areas.push({ start: Number(textOf(area['start'])), length: Number(textOf(area['length'])) });
      if (found.length === 0) emptyPages++;
      const covered = Number(textOf(page['returnval']?.['length']));
      if (!(covered > 0)) throw new Error(`A page at ${at} covers nothing.`);
      at += covered;
    }
    return { areas, emptyPages };
  }
}

/** The text of an element, with or without attributes. */
export function textOf(node: XmlNode | undefined): string {
  if (node === undefined) return '';
  return typeof node === 'object' ? String(node['#text'] ?? '') : String(node);
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
