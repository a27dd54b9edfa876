import { formatDuration } from '../../shared/index.js';
import { keepRunning } from './keep-running.js';
import { startTemporal, type RunningTemporal, type TemporalOptions } from './start-temporal.js';

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
  const server = await startTemporal(options);
  const { address, webUrl } = server;
  const { now, stop } = keepRunning(server, {
    startAgain: () => startTemporal({ ...options, port: portOf(address), uiPort: portOf(webUrl) }),
    describe: ({ delayMs }) =>
      `The Temporal server on ${address} ended by itself. It is started again in ${formatDuration(delayMs / 1000)}.`,
    say,
  });
  return { address, webUrl, pid: () => now().pid, stop };
}

/** The port that an address names, with or without a scheme in front; 0 where it names none. */
export function portOf(address: string): number {
  return Number(/:(\d+)/.exec(address.replace(/^https?:/, ''))?.[1] ?? 0);
}
