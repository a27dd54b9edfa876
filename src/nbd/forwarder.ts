import http from 'node:http';
import https from 'node:https';
import { pipeline } from 'node:stream';
import { pinnedTlsOptions } from '../shared/pinned-tls.js';
import type { ForwarderCounters, HttpsOptions } from './types.js';

const IDLE_MS = 120_000;
const PASSED_REQUEST_HEADERS = ['range', 'accept', 'user-agent'];
const PASSED_RESPONSE_HEADERS = [
  'content-length',
  'content-range',
  'content-type',
  'accept-ranges',
  'last-modified',
  'etag',
];

export interface Forwarder {
  counters: ForwarderCounters;
  /** May run twice. */
  close: () => Promise<void>;
}

/**
 * Stands between nbdkit's curl plugin and vSphere, on a unix socket in a folder that is ours alone. It does what the
 * plugin cannot: it pins the certificate, keeps the session cookie out of every argument list, and gets a new one when
 * the server answers 401 in the middle of a transfer (R33). It serves one URL, for reading, whatever path is asked.
 *
 * @param report Gets one line per upstream failure, worded for `classifyNbdkitFailure`.
 */
export async function startForwarder(
  socketPath: string,
  { url, tls, cookie }: Pick<HttpsOptions, 'url' | 'tls' | 'cookie'>,
  report: (line: string) => void,
): Promise<Forwarder> {
  const agent = new https.Agent({ keepAlive: true, maxSockets: 16, ...pinnedTlsOptions(tls) });
  const counters: ForwarderCounters = { requests: 0, bytesReceived: 0, renewals: 0 };
  let session: Promise<string> | undefined;

  const currentCookie = (refused?: string): Promise<string> => {
    session ??= cookie(refused).catch((error: unknown) => {
      session = undefined;
      throw error;
    });
    return session;
  };
  const renewedCookie = async (refused: string): Promise<string> => {
    // Several requests may be refused at once: only the first of them throws the cookie away.
    if ((await currentCookie()) === refused) {
      session = undefined;
      counters.renewals++;
    }
    return currentCookie(refused);
  };
  const ask = (method: string, headers: http.OutgoingHttpHeaders, retried = false): Promise<http.IncomingMessage> =>
    new Promise((resolve, reject) => {
      const request = https.request(url, { method, headers, agent, timeout: IDLE_MS }, resolve);
      request.on('timeout', () => request.destroy(new Error(`timed out: no answer for ${IDLE_MS} ms`)));
      request.on('error', (error) => {
        // The server may close a kept connection at the moment we use it: that says nothing about the server.
        if (request.reusedSocket && !retried) ask(method, headers, true).then(resolve, reject);
        else reject(error);
      });
      request.end();
    });
  const forward = async (request: http.IncomingMessage): Promise<http.IncomingMessage> => {
    const headers: http.OutgoingHttpHeaders = {};
    for (const name of PASSED_REQUEST_HEADERS)
      if (request.headers[name] !== undefined) headers[name] = request.headers[name];
    const session = await currentCookie();
    const first = await ask(request.method ?? 'GET', { ...headers, cookie: session });
    if (first.statusCode !== 401) return first;
    first.resume();
    return ask(request.method ?? 'GET', { ...headers, cookie: await renewedCookie(session) });
  };

  const server = http.createServer((request, response) => {
    counters.requests++;
    if (request.method !== 'GET' && request.method !== 'HEAD') return void response.writeHead(405).end();
    forward(request).then(
      (answer) => {
        const status = answer.statusCode ?? 502;
        if (status >= 400) report(`forwarder: error: HTTP ${status} for ${request.method} ${new URL(url).pathname}`);
        const headers: http.OutgoingHttpHeaders = {};
        for (const name of PASSED_RESPONSE_HEADERS)
          if (answer.headers[name] !== undefined) headers[name] = answer.headers[name];
        response.writeHead(status, headers);
        answer.on('data', (bytes: Buffer) => (counters.bytesReceived += bytes.length));
        pipeline(answer, response, (error) => {
          if (error && !request.destroyed) report(`forwarder: error: connection lost: ${error.message}`);
        });
      },
      (error: Error) => {
        report(`forwarder: error: ${(error as NodeJS.ErrnoException).code ?? ''} ${error.message}`);
        response.writeHead(502).end();
      },
    );
  });
  server.keepAliveTimeout = IDLE_MS;
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(socketPath, resolve));
  return {
    counters,
    close: async () => {
      server.closeAllConnections();
      agent.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
