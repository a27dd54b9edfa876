import { failureTypeOf } from '../shared/errors.js';
import { nbdkitFailure, reasonIn } from './classify.js';
import { NbdClient } from './nbd-client.js';
import { NbdRefused } from './nbd-handshake.js';
import type { DiskSource, NbdClientSettings } from './types.js';

/**
 * Connects to an opened disk. With vddk this is the moment of the login; a refusal is explained by nbdkit's stderr.
 *
 * @throws What the guard of the logins throws, VddkAuthentication, ThumbprintMismatch, DiskNotFound (not retried), HostUnreachable, SourceBusy, NbdkitExited,
 * NbdConnectionLost (retried).
 */
export async function connectDisk(
  source: DiskSource,
  options: NbdClientSettings & { subject: string },
): Promise<NbdClient> {
  await source.logins?.check(options.signal);
  const since = performance.now();
  try {
    const client = await NbdClient.connect({ ...options, socketPath: source.socketPath });
    client.complaint = async () => reasonIn(await source.errorSince(since));
    return client;
  } catch (error) {
    options.signal?.throwIfAborted();
    const what = `nbdkit could not open ${options.subject}.`;
    const exit = source.exited();
    if (exit !== undefined) {
      const how = exit.signal === undefined ? `code ${exit.exitCode}` : `signal ${exit.signal}`;
      throw nbdkitFailure(
        `nbdkit ended with ${how}; ${options.subject} cannot be read.`,
        source.lastStderr(),
        'NbdkitExited',
        error,
      );
    }
    // nbdkit 1.42 and later repeat the reason in the refusal itself.
    const stderr = [await source.errorSince(since), error instanceof NbdRefused ? error.text : ''].join('\n').trim();
    const closer = await source.diagnose?.(stderr);
    const told = nbdkitFailure(what, closer ?? stderr, 'NbdConnectionLost', error);
    if (failureTypeOf(told) === 'VddkAuthentication') await source.logins?.refused();
    throw told;
  }
}
