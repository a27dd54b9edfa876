import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startForwarder } from './forwarder.js';
import { pluginVersion } from './plugin-version.js';
import { startNbdkit } from './start-nbdkit.js';
import type { DiskSource, HttpsOptions } from './types.js';

/**
 * Serves a flat file of a datastore through vSphere's `/folder`, without VDDK. There is no map (`hasMap` is false), and
 * nbdkit 1.32 has one request in flight per connection, so reads should be 2 MiB (R34).
 */
export async function openHttps(options: HttpsOptions): Promise<DiskSource> {
  const { nbdkitCommand = 'nbdkit', url } = options;
  const target = new URL(url);
  const version = await pluginVersion(nbdkitCommand, ['curl']);
  const folder = await mkdtemp(join(tmpdir(), 'web-'));
  const forwarderPath = join(folder, 's');
  let stderr: ((line: string) => void) | undefined;
  try {
    const forwarder = await startForwarder(forwarderPath, options, (line) => stderr?.(line));
    try {
      const nbdkit = await startNbdkit({
        ...options,
        plugin: [
          'curl',
          // Plain HTTP on a private unix socket; the forwarder speaks TLS.
          `url=http://${target.host}${target.pathname}${target.search}`,
          `unix-socket-path=${forwarderPath}`,
          'protocols=http',
          'timeout=600',
        ],
        env: { no_proxy: '*', ...options.env },
        subject: decodeURIComponent(target.pathname),
      });
      stderr = (line) => nbdkit.stderr.add(line);
      const stop = async () => {
        await nbdkit.stop();
        await forwarder.close();
        await rm(folder, { recursive: true, force: true });
      };
      let stopped: Promise<void> | undefined;
      return {
        socketPath: nbdkit.socketPath,
        commandLine: nbdkit.commandLine,
        pluginVersion: version,
        lastStderr: () => nbdkit.stderr.text(),
        errorSince: (since) => nbdkit.stderr.waitForError(since),
        exited: nbdkit.exited,
        counters: () => ({ ...forwarder.counters }),
        stop: () => (stopped ??= stop()),
      };
    } catch (error) {
      await forwarder.close();
      throw error;
    }
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}
