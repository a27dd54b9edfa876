import soap from 'soap';
import { addressOf, trustFor } from '../shared/pinned-tls.js';
import { hide } from '../shared/redaction.js';
import { failureFromFault, faultFromLocalized, faultOf, VimFault } from './faults.js';
import { resultOf } from './fields.js';
import { createHttpClient } from './http-client.js';
import { normaliseField } from './normalise.js';
import { buildRequest, moRef, type MoRef } from './requests.js';
import type { OperationName } from './schema.js';
import { explainConnection, wrongPassword } from './session-errors.js';
import type { VsphereOptions } from './types.js';
import type { RetrieveResult } from './properties.js';
import { buildWsdl } from './wsdl.js';

/** Where a server's services are, and what it is. All of these services exist on vCenter and on ESXi. */
export interface ServiceContent {
  rootFolder: MoRef;
  propertyCollector: MoRef;
  viewManager: MoRef;
  sessionManager: MoRef;
  authorizationManager: MoRef;
  licenseManager: MoRef;
  /** `apiType` is `VirtualCenter` or, of a single ESXi host, `HostAgent`. */
  about: { fullName: string; apiType: string; apiVersion: string };
}

/** One logged-in connection to a server, shared by all callers of an endpoint. */
export interface Session {
  /**
   * Calls one operation with a live session; logs in again once when it has expired.
   * @throws VimFault for the server's faults; failures for everything else.
   */
  call<T>(operation: OperationName, on: MoRef, args?: Record<string, unknown>): Promise<T>;
  content(): Promise<ServiceContent>;
  /** Key of the session, as HasPrivilegeOnEntity wants it. */
  key(): Promise<string>;
  cookie(refused?: string): Promise<string>;
  close(): Promise<void>;
}

interface Connection {
  client: soap.Client;
  http: ReturnType<typeof createHttpClient>;
  content: ServiceContent;
}

export function createSession(options: VsphereOptions & { url: string }): Session {
  let connection: Promise<Connection> | undefined;
  let login: Promise<{ key: string; cookie: string }> | undefined;
  let cookie: string | undefined;
  // A wrong password is tried once: every further attempt brings the account nearer to being locked out.
  let refused: Error | undefined;
  let closed = false;
  let lastCallAt = Date.now();
  hide(options.password);

  async function connect(): Promise<Connection> {
    const trust = await trustFor(options);
    const http = createHttpClient(trust, (pair) => {
      hide(pair.slice(pair.indexOf('=') + 1).replaceAll('"', ''));
      cookie = pair;
    });
    const client = await soap.createClientAsync(
      buildWsdl(),
      { disableCache: true, httpClient: http as unknown as soap.HttpClient },
      options.url,
    );
    // The answer names the version; until it is known, the oldest version all supported servers speak.
    client.setSOAPAction(soapActionFor('6.0'));
    const content = await send<ServiceContent>(
      client,
      'RetrieveServiceContent',
      moRef('ServiceInstance', 'ServiceInstance'),
    );
    client.setSOAPAction(soapActionFor(content.about.apiVersion));
    return { client, http, content };
  }

  function connected(): Promise<Connection> {
    if (closed) return Promise.reject(new Error('this vSphere session was closed'));
    connection ??= connect().catch((error: unknown) => {
      connection = undefined;
      throw error;
    });
    return connection;
  }

  async function send<T>(
    client: soap.Client,
    operation: OperationName,
    on: MoRef,
    args: Record<string, unknown> = {},
  ): Promise<T> {
    lastCallAt = Date.now();
    const request = buildRequest(operation, { _this: on, ...args });
    const headers = cookie === undefined ? {} : { Cookie: cookie };
    const method = (client as unknown as Record<string, SoapMethod>)[`${operation}Async`];
    if (!method) throw new Error(`no operation ${operation}`);
    let answer: { returnval?: unknown } | null;
    for (let attempt = 1; ; attempt += 1) {
      try {
        [answer] = await method(request, {}, headers);
        break;
      } catch (error) {
        // Most likely the server never saw the request, yet a task must not be issued on "most likely".
        const { staleConnection } = error as { staleConnection?: boolean };
        if (staleConnection && attempt === 1 && !operation.endsWith('_Task')) continue;
        throw faultOf(error) ?? (await explainConnection(error, options));
      }
    }
    const result = resultOf(operation);
    const value = result ? normaliseField(result, answer?.returnval) : undefined;
    // Without a session the server still answers property reads, and says so beside each property.
    const missing = (value as RetrieveResult | undefined)?.objects?.flatMap?.((object) => object.missingSet) ?? [];
    const fault = missing.map((entry) => faultFromLocalized(entry.fault)).find(isExpired);
    if (fault) throw fault;
    return value as T;
  }

  function logIn({ client, content }: Connection): Promise<{ key: string; cookie: string }> {
    login ??= (async () => {
      // With a guard it is the only memory: what a person takes out of it may be tried again without a restart.
      if (options.guard) await options.guard.check();
      else if (refused) throw refused;
      // With a live session's cookie attached, a login is refused.
      cookie = undefined;
      try {
        const user = await send<{ key: string }>(client, 'Login', content.sessionManager, {
          userName: options.username,
          password: options.password,
        });
        if (cookie === undefined) throw new VimFault('NotAuthenticated', 'the login gave no session cookie');
        return { key: user.key, cookie };
      } catch (error) {
        if (!(error instanceof VimFault)) throw error;
        if (error.type === 'InvalidLogin') {
          await options.guard?.refused();
          throw (refused = wrongPassword(options));
        }
        throw failureFromFault(`Logging in to ${addressOf(options.url).hostname} failed.`, error);
      }
    })().catch((error: unknown) => {
      login = undefined;
      throw error;
    });
    return login;
  }

  async function call<T>(operation: OperationName, on: MoRef, args?: Record<string, unknown>): Promise<T> {
    const current = await connected();
    const used = await logIn(current);
    try {
      return await send<T>(current.client, operation, on, args);
    } catch (error) {
      if (!isExpired(error)) throw error;
      forget(used.cookie);
      await logIn(current);
      return send<T>(current.client, operation, on, args);
    }
  }

  // Several calls may hear of the same expiry: only the first one ends the session they all used.
  function forget(stale: string): void {
    if (cookie === stale) login = undefined;
  }

  const keepAliveMs = options.keepAliveMs ?? 300_000;
  const timer = keepAliveMs === 0 ? undefined : setInterval(keepAlive, keepAliveMs);
  timer?.unref();

  function keepAlive(): void {
    if (cookie === undefined || Date.now() - lastCallAt < keepAliveMs / 2) return;
    // Should it fail, the next real call finds out and says so.
    call('CurrentTime', moRef('ServiceInstance', 'ServiceInstance')).catch(() => undefined);
  }

  return {
    call,
    content: async () => (await connected()).content,
    key: async () => (await logIn(await connected())).key,
    async cookie(stale) {
      if (stale !== undefined) forget(stale);
      await call('CurrentTime', moRef('ServiceInstance', 'ServiceInstance'));
      return (await logIn(await connected())).cookie;
    },
    async close() {
      clearInterval(timer);
      if (closed) return;
      const current = await connection?.catch(() => undefined);
      // Sessions that nobody ends fill the server's table; one that is gone already needs no ending.
      if (current && login) {
        await send(current.client, 'Logout', current.content.sessionManager).catch(() => undefined);
      }
      closed = true;
      current?.http.close();
    },
  };
}

type SoapMethod = (args: unknown, options: object, headers: object) => Promise<[{ returnval?: unknown } | null]>;

function isExpired(error: unknown): error is VimFault {
  return error instanceof VimFault && error.type === 'NotAuthenticated';
}

/** The newest version both sides know: a newer one than the server's is a fault, an older one hides fields. */
export function soapActionFor(apiVersion: string): string {
  const [major = 0, minor = 0] = apiVersion.split('.').map(Number);
  const known = major >= 7 ? '7.0' : major === 6 && minor >= 7 ? '6.7' : major === 6 && minor >= 5 ? '6.5' : '6.0';
  return `urn:vim25/${known}`;
}
