import { readFile } from 'node:fs/promises';
import { rootCertificates } from 'node:tls';
import { Agent } from 'undici';
import { Xapi as XenApi } from 'xen-api';
import type { ParsedUrl } from 'xen-api';
import { failure } from '../shared/errors.js';
import { fetchCertificate, pinnedTlsOptions } from '../shared/pinned-tls.js';
import type { PinnedTls } from '../shared/pinned-tls.js';
import { xapiFailure } from './failures.js';
import type { XapiOptions } from './types.js';

/** A storage call (snapshot, destroy) may take minutes; beyond this the server has lost it. */
const CALL_TIMEOUT_MS = 20 * 60_000;
const INACTIVITY_MS = 25 * 60_000;

/**
 * One session with a pool's master. Logs in at the first call; `xen-api` logs in again once when the session has ended.
 * A refused password is never sent a second time: accounts lock.
 */
export class Connection {
  readonly #options: XapiOptions;
  #opening: Promise<{ client: XenApi; pin: PinnedTls }> | undefined;
  #refused: Error | undefined;

  constructor(options: XapiOptions) {
    this.#options = options;
  }

  get url(): string {
    return this.#options.url;
  }

  /** Calls a method of the API; the session is put in front of the arguments. @throws what `xapiFailure` makes of it */
  async call<T = unknown>(method: string, ...args: unknown[]): Promise<T> {
    const { client } = await this.#open();
    try {
      return (await client.call(method, ...args)) as T;
    } catch (error) {
      throw this.#remember(xapiFailure(error, method, this.url));
    }
  }

  /** Reference of a session for the HTTP handlers, known to be alive. */
  async session(): Promise<string> {
    await this.call('pool.get_all');
    return (await this.#open()).client.sessionId;
  }

  /** How the master's certificate is recognised. */
  async pin(): Promise<PinnedTls> {
    return (await this.#open()).pin;
  }

  async close(): Promise<void> {
    const opening = this.#opening;
    this.#opening = undefined;
    const opened = await opening?.catch(() => undefined);
    await opened?.client.disconnect();
  }

  #open(): Promise<{ client: XenApi; pin: PinnedTls }> {
    if (this.#refused) return Promise.reject(this.#refused);
    this.#opening ??= this.#connect().catch((error: unknown) => {
      this.#opening = undefined;
      throw this.#remember(error);
    });
    return this.#opening;
  }

  async #connect(): Promise<{ client: XenApi; pin: PinnedTls }> {
    const { url, username, password } = this.#options;
    const pin = await pinFor(this.#options);
    const client = new (pinned(pin))({
      url,
      auth: { user: username, password },
      watchEvents: false,
      transport: 'json-rpc',
      callTimeout: CALL_TIMEOUT_MS,
    });
    try {
      await client.connect();
    } catch (error) {
      throw xapiFailure(error, 'session.login_with_password', url);
    }
    return { client, pin };
  }

  #remember(error: unknown): unknown {
    if ((error as { type?: string }).type === 'AuthenticationFailed') this.#refused = error as Error;
    return error;
  }
}

/**
 * `xen-api` with verification by pin. Version 4.7.6 has no option for it and builds its dispatcher in the constructor,
 * just before `_setUrl`, which is also called when the master moves: the pin then refuses a master it does not know.
 */
function pinned(pin: PinnedTls): typeof XenApi {
  return class extends XenApi {
    protected override _setUrl(url: ParsedUrl): void {
      this._undiciDispatcher = new Agent({
        connect: pinnedTlsOptions(pin),
        headersTimeout: INACTIVITY_MS,
        bodyTimeout: INACTIVITY_MS,
      });
      super._setUrl(url);
    }
  };
}

/**
 * How to recognise a server: by the certificate whose fingerprint a person accepted, else by authorities.
 *
 * @throws CertificateChanged, ConnectionFailed
 */
export async function pinFor({ url, fingerprintSha256, caFile }: XapiOptions): Promise<PinnedTls> {
  if (fingerprintSha256 === undefined) {
    return { ca: caFile === undefined ? rootCertificates.join('\n') : await readFile(caFile, 'utf8') };
  }
  const { hostname, port } = new URL(url);
  const certificate = await fetchCertificate(hostname, Number(port || 443)).catch((error: unknown) => {
    throw xapiFailure(error, 'connect', url);
  });
  const plain = (fingerprint: string) => fingerprint.replaceAll(':', '').toUpperCase();
  if (plain(certificate.fingerprint256) !== plain(fingerprintSha256)) {
    throw failure('CertificateChanged', {
      what: `The certificate of ${url} is not the one that was accepted.`,
      why: `It has the SHA-256 fingerprint ${certificate.fingerprint256}, accepted was ${fingerprintSha256}.`,
      next: 'find out why it changed; if that was meant, put the new fingerprint into surefire.yaml.',
    });
  }
  return { ca: certificate.toString(), allowPartialTrustChain: true };
}
