import https from 'node:https';
import { pinnedTlsOptions, trustFor } from '../shared/pinned-tls.js';
import type { VsphereOptions } from './types.js';

/** Texts that every vSphere server gives to everyone, from memory and without a login: its own description. The largest first. */
const PATHS = ['/sdk/vim-types.xsd', '/sdk/vim.wsdl', '/sdk/vimService.wsdl'];
/** Smaller texts are through before their rate can be told. */
const LEAST_BYTES = 128 * 1024;
const ENOUGH_MS = 300;
const LONGEST_MS = 5_000;

/**
 * What the network carries from a vSphere server to here, by one TLS connection and without touching its storage, in bytes
 * per second. The time until an answer begins does not count: it is the server's.
 *
 * @returns Undefined where the server gives nothing that is large enough.
 */
export async function probeLink(options: VsphereOptions): Promise<number | undefined> {
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1, ...pinnedTlsOptions(await trustFor(options)) });
  const signal = AbortSignal.timeout(LONGEST_MS);
  try {
    for (const path of PATHS) {
      const url = new URL(path, options.url);
      let [bytes, ms] = [0, 0];
      while (ms < ENOUGH_MS && !signal.aborted) {
        const taken = await take(url, agent, signal);
        if (taken.bytes < LEAST_BYTES) break;
        bytes += taken.bytes;
        ms += taken.ms;
      }
      if (ms > 0) return Math.round((1000 * bytes) / ms);
    }
    return undefined;
  } finally {
    agent.destroy();
  }
}

/** Bytes behind the first piece of an answer, and how long they took. When the time is over, as far as it came. */
function take(url: URL, agent: https.Agent, signal: AbortSignal): Promise<{ bytes: number; ms: number }> {
  return new Promise((resolve, reject) => {
    const request = https.get(url, { agent, signal }, (answer) => {
      let [firstAt, lastAt, bytes] = [0, 0, 0];
      answer.on('data', (piece: Buffer) => {
        lastAt = performance.now();
        if (firstAt === 0) firstAt = lastAt;
        else bytes += piece.length;
      });
      const end = () => resolve(answer.statusCode === 200 ? { bytes, ms: lastAt - firstAt } : { bytes: 0, ms: 0 });
      answer.on('end', end);
      answer.on('error', end);
    });
    request.on('error', (error) => (signal.aborted ? resolve({ bytes: 0, ms: 0 }) : reject(error)));
  });
}
