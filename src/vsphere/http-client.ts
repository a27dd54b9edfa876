import type { ClientRequest } from 'node:http';
import https from 'node:https';
import { pinnedTlsOptions, type PinnedTls } from '../shared/pinned-tls.js';

/** The connections to one server: the pin is in the agent, and no proxy of the environment is used. */
export interface HttpClient {
  /**
   * @throws The connection's error; with `staleConnection` where the server closed an idle connection in the moment it was
   * used again, and so has not read the request.
   */
  post(url: string, body: string, headers: Record<string, string>): Promise<{ status: number; text: string }>;
  /** Ends idle and busy connections. */
  close(): void;
}

/** @param onCookie Told the session cookie of an answer. */
export function createHttpClient(
  trust: PinnedTls,
  onCookie: (cookie: string) => void,
  timeoutMs = 120_000,
): HttpClient {
  const agent = new https.Agent({ keepAlive: true, maxSockets: 8, ...pinnedTlsOptions(trust) });
  return {
    post: (url, body, headers) =>
      new Promise((resolve, reject) => {
        const request = https.request(url, { agent, method: 'POST', headers }, (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('error', reject);
          response.on('end', () => {
            for (const cookie of response.headers['set-cookie'] ?? []) {
              // The value goes back as it came: vCenter puts it in double quotes.
              const pair = cookie.split(';', 1)[0] ?? '';
              if (pair.startsWith('vmware_soap_session=')) onCookie(pair);
            }
            resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') });
          });
        });
        request.setTimeout(timeoutMs, () => request.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)));
        request.on('error', (error) => reject(Object.assign(error, { staleConnection: isStale(request, error) })));
        request.end(body);
      }),
    close: () => agent.destroy(),
  };
}

function isStale(request: ClientRequest, error: NodeJS.ErrnoException): boolean {
  return request.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
}
