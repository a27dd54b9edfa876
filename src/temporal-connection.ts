import { readFileSync } from 'node:fs';
import { Connection } from '@temporalio/client';
import type { Config } from './config.js';
import { failure } from './shared/errors.js';

/** Where a Temporal server is, and how it is spoken to. */
export type TemporalServer = Pick<Config['temporal'], 'address' | 'namespace' | 'tls'>;

/** @throws Error when nobody answers within `timeoutMs`; `clientFailure` makes a sentence of it. */
export function connectTemporal(server: TemporalServer, timeoutMs: number): Promise<Connection> {
  return Connection.connect({ ...connectionOptions(server), connectTimeout: timeoutMs });
}

/**
 * What client and worker connect with. TLS is verified; certificates are read anew at every connect, so that renewed ones count.
 *
 * @throws ConfigInvalid when a certificate or key cannot be read.
 */
export function connectionOptions({ address, tls }: Pick<TemporalServer, 'address' | 'tls'>) {
  if (tls === undefined) return { address };
  const { caFile, certFile, keyFile, serverName } = tls;
  return {
    address,
    tls: {
      ...(serverName !== undefined && { serverNameOverride: serverName }),
      ...(caFile !== undefined && { serverRootCACertificate: read(caFile) }),
      ...(certFile !== undefined &&
        keyFile !== undefined && { clientCertPair: { crt: read(certFile), key: read(keyFile) } }),
    },
  };
}

function read(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw failure('ConfigInvalid', {
      what: `File ${file} of temporal.tls cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown reason'}).`,
      next: 'correct temporal.tls in the configuration, or the rights of the file.',
    });
  }
}
