import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startForwarder, type Forwarder } from './forwarder.js';
import { pluginVersion } from './plugin-version.js';
import { startNbdkit } from './start-nbdkit.js';
import { StderrTail } from './stderr-tail.js';
import type { DiskSource, HttpsOptions } from './types.js';

/**
 * Serves a flat file of a datastore through vSphere's `/folder`, without VDDK. There is no map (`hasMap` is false), and
 * nbdkit 1.32 has one request in flight per connection, so reads should be 2 MiB (R34).
 */
export async function openHttps(options: HttpsOptions): Promise<DiskSource> {
  const { nbdkitCommand = 'nbdkit', url } = options;
  const target = new URL(url);
  const version = await pluginVersion(nbdkitCommand, ['curl']);
  const folder = await mkdtemp(join(tmpdir(), 'nbd-'));
  const stderr = new StderrTail();
  let forwarder: Forwarder | undefined;
  try {
    const forwarderPath = join(folder, 'forwarder');
    const { counters, close } = (forwarder = await startForwarder(forwarderPath, options, (line) => stderr.add(line)));
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
      folder,
      stderr,
    });
    return {
      ...nbdkit,
      pluginVersion: version,
      counters: () => ({ ...counters }),
      stop: async () => {
        await nbdkit.stop();
        await close();
      },
    };
  } catch (error) {
    await forwarder?.close();
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}
