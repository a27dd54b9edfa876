import { setTimeout as sleep } from 'node:timers/promises';
import { failureMessageOf, formatDuration } from '../../shared/index.js';
import { startTemporal, type RunningTemporal, type TemporalOptions } from './start-temporal.js';

/** Worth a fresh start of the back-off: it had settled. */
const STEADY_MS = 60_000;
const FIRST_DELAY_MS = 1_000;
const LONGEST_DELAY_MS = 30_000;

/** A server that is started again when it dies, on the same ports and database: workers and clients find it by themselves. */
export type KeptTemporal = Pick<RunningTemporal, 'address' | 'webUrl' | 'stop'> & { pid(): number };

/**
 * Starts a Temporal server and keeps it running. All state is in its database, so its death costs a pause: workers go on
 * with what they do, and report when it is back.
 *
 * @param say Told of every end that nobody asked for.
 * @throws TemporalUnreachable when it does not come up the first time.
 */
export async function keepTemporal(options: TemporalOptions, say: (line: string) => void): Promise<KeptTemporal> {
  let server = await startTemporal(options);
  const { address, webUrl } = server;
  const again = { ...options, port: portOf(address), uiPort: portOf(webUrl) };
  const stopped = new AbortController();
  const isOver = keep();

  async function keep(): Promise<void> {
    for (let delayMs = FIRST_DELAY_MS; ; delayMs = Math.min(delayMs * 2, LONGEST_DELAY_MS)) {
      const since = Date.now();
      await server.ended;
      if (Date.now() - since > STEADY_MS) delayMs = FIRST_DELAY_MS;
      while (!stopped.signal.aborted) {
        say(
          `The Temporal server on ${address} ended by itself. It is started again in ${formatDuration(delayMs / 1000)}.`,
        );
        await sleep(delayMs, undefined, { signal: stopped.signal }).catch(() => undefined);
        if (stopped.signal.aborted) return;
        try {
          server = await startTemporal(again);
          break;
        } catch (error) {
          say(failureMessageOf(error));
          delayMs = Math.min(delayMs * 2, LONGEST_DELAY_MS);
        }
      }
      if (stopped.signal.aborted) return;
    }
  }

  return {
    address,
    webUrl,
    pid: () => server.pid,
    async stop() {
      stopped.abort();
      await server.stop();
      await isOver;
      // It may just have been coming up again.
      await server.stop();
    },
  };
}

function portOf(url: string): number {
  return Number(/:(\d+)$/.exec(url)?.[1]);
}
