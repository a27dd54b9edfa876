import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import tls from 'node:tls';
import { failure } from '../shared/errors.js';
import type { PresentedCertificate } from './types.js';

/** How to trust one server: options for `tls.connect`, `https.Agent` and the like. Verification stays on. */
export interface Trust {
  tls: Pick<tls.SecureContextOptions, 'ca' | 'allowPartialTrustChain'> & {
    rejectUnauthorized: true;
    checkServerIdentity?: typeof tls.checkServerIdentity;
  };
  /** Present when a fingerprint was pinned: the certificate that was compared with it. */
  certificate?: PresentedCertificate;
}

/**
 * Asks a server for its certificate without trusting it, for a person to look at. Sends nothing but the handshake.
 *
 * @throws ConnectionFailed when nobody answers there, or answers without TLS.
 */
export async function fetchCertificate(url: string, timeoutMs = 10_000): Promise<PresentedCertificate> {
  const { hostname, port } = addressOf(url);
  const certificate = await new Promise<tls.DetailedPeerCertificate>((resolve, reject) => {
    const socket = tls.connect({
      host: hostname,
      port,
      // Only to look: nothing is written to this connection, and it is closed at once.
      rejectUnauthorized: false,
      ...(isIP(hostname) ? {} : { servername: hostname }),
    });
    socket.setTimeout(timeoutMs, () => socket.destroy(new Error(`no TLS handshake within ${timeoutMs / 1000} s`)));
    socket.once('secureConnect', () => {
      resolve(socket.getPeerCertificate(true));
      socket.destroy();
    });
    socket.once('error', reject);
  }).catch((error: unknown) => {
    throw connectionFailed(url, error);
  });
  const base64 = certificate.raw.toString('base64').replace(/.{1,64}/g, '$&\n');
  return {
    pem: `-----BEGIN CERTIFICATE-----\n${base64}-----END CERTIFICATE-----\n`,
    fingerprintSha256: certificate.fingerprint256,
    thumbprintSha1: certificate.fingerprint,
    subject: commonName(certificate.subject),
    issuer: commonName(certificate.issuer),
    validTo: new Date(certificate.valid_to).toISOString(),
    selfSigned: certificate.issuerCertificate?.fingerprint256 === certificate.fingerprint256,
  };
}

/**
 * Trust in one server: by pin where there is one, else by authorities.
 *
 * A pinned certificate becomes the only authority, so that Node itself refuses every other one; its name is not
 * compared, because the pin says more. A leaf that an authority signed needs `allowPartialTrustChain` for that.
 *
 * @throws CertificateChanged when the server presents another certificate than the pinned one.
 */
export async function trustFor(input: { url: string; fingerprintSha256?: string; caFile?: string }): Promise<Trust> {
  if (input.fingerprintSha256 === undefined) {
    return { tls: { rejectUnauthorized: true, ...(input.caFile ? { ca: await readFile(input.caFile, 'utf8') } : {}) } };
  }
  const certificate = await fetchCertificate(input.url);
  if (!sameFingerprint(certificate.fingerprintSha256, input.fingerprintSha256)) {
    throw certificateChanged(input.url, input.fingerprintSha256, certificate);
  }
  return {
    certificate,
    tls: {
      rejectUnauthorized: true,
      ca: certificate.pem,
      allowPartialTrustChain: true,
      checkServerIdentity: (_host, presented) =>
        sameFingerprint(presented.fingerprint256, certificate.fingerprintSha256)
          ? undefined
          : new Error('the certificate is not the pinned one'),
    },
  };
}

/** Host and port of an address, with the scheme's default port. */
export function addressOf(url: string): { hostname: string; port: number } {
  const { hostname, port } = new URL(url);
  return { hostname: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 443) };
}

export function certificateChanged(url: string, pinned: string, presented: PresentedCertificate): Error {
  const { hostname, port } = addressOf(url);
  return failure(
    'CertificateChanged',
    {
      what: `${hostname}:${port} presents another certificate than the pinned one.`,
      why:
        `Pinned is ${pinned}; presented is ${presented.fingerprintSha256} (subject "${presented.subject}", ` +
        `valid to ${presented.validTo}). It was renewed, or something stands between us and the server.`,
      next: 'ask whoever runs the server; if the new certificate is right, put its fingerprint into the configuration.',
    },
    { host: hostname, port, pinned, presented: presented.fingerprintSha256 },
  );
}

export function connectionFailed(url: string, error: unknown): Error {
  const { hostname, port } = addressOf(url);
  const reason = error instanceof Error ? error.message || (error as NodeJS.ErrnoException).code : String(error);
  return failure(
    'ConnectionFailed',
    {
      what: `${hostname}:${port} cannot be reached.`,
      why: `The connection ended with: ${reason}.`,
      next: `check the address, and that this machine may connect to port ${port} of ${hostname}.`,
    },
    { host: hostname, port },
  );
}

/** Compares two fingerprints; case and separators do not matter. */
export function sameFingerprint(one: string, other: string): boolean {
  const plain = (text: string) => text.replace(/[^0-9a-fA-F]/g, '').toUpperCase();
  return plain(one) === plain(other);
}

function commonName(name: tls.Certificate | undefined): string {
  return String(name?.CN ?? '');
}
