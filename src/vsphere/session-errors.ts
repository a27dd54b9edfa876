import { failure } from '../shared/errors.js';
import {
  addressOf,
  certificateChanged,
  connectionFailed,
  fetchCertificate,
  sameFingerprint,
} from '../shared/pinned-tls.js';
import type { VsphereOptions } from './types.js';

/** An error of the connection, said in our words; the request's text (it may hold the password) is never in it. */
export async function explainConnection(error: unknown, options: VsphereOptions): Promise<Error> {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  const status = (error as { response?: { status?: number } }).response?.status;
  if (/CERT|SIGNATURE|ISSUER|SELF_SIGNED|ALTNAME/.test(code)) {
    const presented = await fetchCertificate(options.url);
    const pinned = options.fingerprintSha256;
    if (pinned !== undefined && !sameFingerprint(pinned, presented.fingerprintSha256)) {
      return certificateChanged(options.url, pinned, presented);
    }
    return untrusted(options.url, code, presented.fingerprintSha256);
  }
  return connectionFailed(options.url, status ? `HTTP status ${status}` : (error as Error).message);
}

/** What a refused login is told as. */
export function wrongPassword({ url, username }: VsphereOptions): Error {
  const { hostname } = addressOf(url);
  return failure(
    'AuthenticationFailed',
    {
      what: `${hostname} refuses the login of "${username}".`,
      why: 'User name or password is wrong, or the account is locked. It was tried once and is not tried again.',
      next: 'correct the password: a new one is tried at once.',
    },
    { host: hostname, username },
  );
}

function untrusted(url: string, code: string, fingerprint: string): Error {
  const { hostname, port } = addressOf(url);
  return failure(
    'CertificateUntrusted',
    {
      what: `The certificate of ${hostname}:${port} is not trusted.`,
      why: `Checking it ended with ${code}; its SHA-256 fingerprint is ${fingerprint}.`,
      next: 'compare the fingerprint with the server, then pin it in the configuration, or name the CA file.',
    },
    { host: hostname, port, presented: fingerprint },
  );
}
