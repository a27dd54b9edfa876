import { Agent } from 'undici';
import { Xapi as XenApi } from 'xen-api';
import type { ParsedUrl, XenApiOptions } from 'xen-api';
import { pinnedTlsOptions, trustFor } from '../shared/pinned-tls.js';
import type { PinnedTls } from '../shared/pinned-tls.js';
import { hide } from '../shared/redaction.js';
import { xapiFailure } from './failures.js';
import type { PoolHost, XapiOptions, XapiRecord } from './types.js';

/** A storage call (snapshot, destroy) may take minutes; beyond this the server has lost it. */
const CALL_TIMEOUT_MS = 20 * 60_000;
const INACTIVITY_MS = 25 * 60_000;

/**
 * Codes of a call that was not begun, so that it may be sent again at once to a new session: XAPI's refusals, a server
 * that cannot be reached, and xen-api 4.7.6's assertion that it has a session, which a failed renewal leaves it without.
 */
const NOT_BEGUN = [
  ...['SESSION_INVALID', 'HOST_IS_SLAVE', 'ERR_ASSERTION'],
  ...['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT'],
];

/**
 * One session with a pool's master. Logs in at the first call, and again when the session has ended or the master has
 * moved. A refused password is never sent a second time: accounts lock.
 */
export class Connection {
  readonly #options: XapiOptions;
  #opening: Promise<PinnedClient> | undefined;
  #refused: Error | undefined;
  /** How the pool's hosts are recognised, by address: they have certificates of their own (R33). */
  readonly #learned = new Map<string, PinnedTls>();

  constructor(options: XapiOptions) {
    this.#options = options;
    hide(options.password);
  }

  get url(): string {
    return this.#options.url;
  }

  /** Calls a method of the API; the session is put in front of the arguments. @throws what `xapiFailure` makes of it */
  async call<T = unknown>(method: string, ...args: unknown[]): Promise<T> {
    for (let isLast = false; ; isLast = true) {
      const opening = this.#open();
      const client = await opening;
      try {
        return (await client.call(method, ...args)) as T;
      } catch (error) {
        const isNotBegun = NOT_BEGUN.includes((error as { code?: string }).code ?? '');
        if (isNotBegun) this.#forget(opening, client);
        if (isNotBegun && !isLast) continue;
        throw this.#remember(xapiFailure(error, method, this.url));
      }
    }
  }

  /** Reference of a session for the HTTP handlers, known to be alive. */
  async session(): Promise<string> {
    await this.call('pool.get_all');
    return (await this.#open()).sessionId;
  }

  /** The master: where it is now, and how its certificate is recognised. */
  async master(): Promise<PoolHost> {
    const client = await this.#open();
    return { url: client.address.origin, tls: client.pin };
  }

  async close(): Promise<void> {
    const opening = this.#opening;
    this.#opening = undefined;
    const client = await opening?.catch(() => undefined);
    await client?.end();
  }

  #open(): Promise<PinnedClient> {
    if (this.#refused && !this.#options.guard) return Promise.reject(this.#refused);
    this.#opening ??= this.#connect().catch((error: unknown) => {
      this.#opening = undefined;
      throw this.#remember(error);
    });
    return this.#opening;
  }

  /** The next call logs in anew; a client that was replaced already is left alone. */
  #forget(opening: Promise<PinnedClient>, client: PinnedClient): void {
    if (this.#opening !== opening) return;
    this.#opening = undefined;
    // Of no more use, and perhaps not there any more: nobody waits for its logout.
    client.end().catch(() => undefined);
  }

  /** To the configured address; when that host is gone, to those that were learned of: one of them knows the new master. */
  async #connect(): Promise<PinnedClient> {
    const { url } = this.#options;
    try {
      return await this.#connectTo(url, await trustFor(this.#options));
    } catch (error) {
      for (const [address, pin] of this.#learned) {
        if ((error as { type?: string }).type !== 'ConnectionFailed') break;
        const other = new URL(url);
        other.hostname = address;
        const client = await this.#connectTo(other.origin, pin).catch((next: unknown) => {
          if ((next as { type?: string }).type !== 'ConnectionFailed') throw next;
        });
        if (client) return client;
      }
      throw error;
    }
  }

  async #connectTo(url: string, pin: PinnedTls): Promise<PinnedClient> {
    const { username, password } = this.#options;
    const client = newClient(pin, this.#learned, {
      url,
      auth: { user: username, password },
      watchEvents: false,
      transport: 'json-rpc',
      callTimeout: CALL_TIMEOUT_MS,
    });
    await this.#options.guard?.check();
    try {
      await client.connect();
    } catch (error) {
      const told = xapiFailure(error, 'session.login_with_password', url);
      if ((told as { type?: string }).type === 'AuthenticationFailed') await this.#options.guard?.refused();
      throw told;
    }
    await this.#learn(client);
    return client;
  }

  /** Asks the master, which is trusted, for the certificates of the others: one of them may be the next master. */
  async #learn(client: PinnedClient): Promise<void> {
    const hosts = (await client.call('host.get_all_records')) as Record<string, XapiRecord>;
    for (const [ref, host] of Object.entries(hosts)) {
      try {
        const ca = String(await client.call('host.get_server_certificate', ref));
        if (ca.includes('-----BEGIN CERTIFICATE-----')) {
          this.#learned.set(String(host['address']), { ca, allowPartialTrustChain: true });
        }
      } catch {
        // A host that is down keeps what was learned of it; it cannot take data now.
      }
    }
  }

  #remember(error: unknown): unknown {
    if ((error as { type?: string }).type === 'AuthenticationFailed') this.#refused = error as Error;
    return error;
  }
}

type PinnedClient = ReturnType<typeof newClient>;

/**
 * `xen-api` with verification by pin. Version 4.7.6 has no option for it and builds its dispatcher in the constructor,
 * just before `_setUrl`, which is also called when the master moves: then the certificate learned of that host counts.
 */
function newClient(first: PinnedTls, learned: Map<string, PinnedTls>, options: XenApiOptions) {
  class Pinned extends XenApi {
    // Set by the constructor above this class: a field initialiser would undo it.
    declare pin: PinnedTls;
    declare address: URL;

    protected override _setUrl(url: ParsedUrl): void {
      const isFirst = this.pin === undefined;
      this.pin = isFirst ? first : (learned.get(url.hostname) ?? first);
      this.address = new URL(`https://${url.hostname}${url.port === undefined ? '' : `:${url.port}`}`);
      this._undiciDispatcher = new Agent({
        connect: pinnedTlsOptions(this.pin),
        headersTimeout: INACTIVITY_MS,
        bodyTimeout: INACTIVITY_MS,
      });
      super._setUrl(url);
    }

    protected override async _call(method: string, ...rest: unknown[]): Promise<unknown> {
      const result = await super._call(method, ...rest);
      if (method === 'session.login_with_password') hide(String(result));
      return result;
    }

    /** Logs out and closes what is open once it is idle. */
    async end(): Promise<void> {
      await this.disconnect();
      await (this._undiciDispatcher as Agent).close();
    }
  }
  return new Pinned(options);
}
