import { failure } from '../shared/errors.js';
import { NbdClient } from './nbd-client.js';
import type { NbdClientSettings, NbdRemote } from './types.js';

/**
 * Connects to an export in the network, over TLS.
 *
 * @throws CertificateChanged (not retried) when another server answers, ConnectionFailed (retried) for everything else: the
 * server says no by closing the connection, and does not say why.
 */
export async function connectExport(
  remote: NbdRemote,
  options: NbdClientSettings & { subject: string },
): Promise<NbdClient> {
  try {
    return await NbdClient.connect({ ...options, remote });
  } catch (error) {
    options.signal?.throwIfAborted();
    const { code = '', message } = error as NodeJS.ErrnoException;
    const address = `${remote.host}:${remote.port}`;
    // Node's codes for a certificate that does not lead to the pinned one.
    const isForeign = /CERT|SIGNATURE|SELF_SIGNED|ALTNAME/.test(code);
    throw failure(
      isForeign ? 'CertificateChanged' : 'ConnectionFailed',
      {
        what: `${options.subject} cannot be read over NBD from ${address}.`,
        why: isForeign ? `It presents another certificate than the pool names: ${message}.` : `${message}.`,
        next: isForeign
          ? 'find out what answers there; nothing was sent to it.'
          : 'check that this worker reaches that port, and that one network of the pool has the purpose `nbd`.',
      },
      undefined,
      error,
    );
  }
}
