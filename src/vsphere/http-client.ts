import type { ClientRequest } from 'node:http';
import https from 'node:https';
import { pinnedTlsOptions, type PinnedTls } from '../shared/pinned-tls.js';

/** What npm `soap` hands to its HTTP client's callback. */
export interface SoapResponse {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  data: string;
}

type Callback = (error: Error | null, response?: SoapResponse, body?: string) => void;

/**
 * HTTP client for npm `soap` on node:https, in place of its axios: the pin is in the agent, connections are kept, no
 * proxy of the environment is used, and the session cookie of an answer is told to its session.
 *
 * `request` has the signature that npm `soap` 1.13 calls.
 */
export function createHttpClient(trust: PinnedTls, onCookie: (cookie: string) => void, timeoutMs = 120_000) {
  const agent = new https.Agent({ keepAlive: true, maxSockets: 8, ...pinnedTlsOptions(trust) });
  return {
    request(url: string, data: string | null, callback: Callback, headers: Record<string, string> = {}): void {
      const request = https.request(url, { agent, method: data === null ? 'GET' : 'POST', headers }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', (error) => callback(error));
        response.on('end', () => {
          for (const cookie of response.headers['set-cookie'] ?? []) {
            // The value goes back as it came: vCenter puts it in double quotes.
            const pair = cookie.split(';', 1)[0] ?? '';
            if (pair.startsWith('vmware_soap_session=')) onCookie(pair);
          }
          const text = Buffer.concat(chunks).toString('utf8');
          callback(null, { status: response.statusCode ?? 0, headers: response.headers, data: text }, text);
        });
      });
      request.setTimeout(timeoutMs, () => request.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)));
      request.on('error', (error) => callback(Object.assign(error, { staleConnection: isStale(request, error) })));
      request.end(data ?? undefined);
    },
    /** Ends idle and busy connections. */
    close(): void {
      agent.destroy();
    },
  };
}

// The server may close an idle connection in the moment we use it again: then it has not read the request.
function isStale(request: ClientRequest, error: NodeJS.ErrnoException): boolean {
  return request.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
}
