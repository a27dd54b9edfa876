import { readFile } from 'node:fs/promises';
import tls from 'node:tls';
import { failure } from '../shared/errors.js';
import { fetchCertificate as fetchX509, type PinnedTls } from '../shared/pinned-tls.js';
import type { PresentedCertificate } from './types.js';

/** How one server is recognised, for `pinnedTlsOptions`. */
export interface Trust extends PinnedTls {
  /** Present when a fingerprint was pinned: the certificate that was compared with it. */
  certificate?: PresentedCertificate;
}

/**
 * Asks a server for its certificate without trusting it, for a person to look at. Sends nothing but the handshake.
 *
 * @throws ConnectionFailed when nobody answers there, or answers without TLS.
 */
export async function fetchCertificate(url: string): Promise<PresentedCertificate> {
  const { hostname, port } = addressOf(url);
  const certificate = await fetchX509(hostname, port).catch((error: unknown) => {
    throw connectionFailed(url, error);
  });
  return {
    pem: certificate.toString(),
    fingerprintSha256: certificate.fingerprint256,
    thumbprintSha1: certificate.fingerprint,
    subject: commonName(certificate.subject),
    issuer: commonName(certificate.issuer),
    validTo: new Date(certificate.validTo).toISOString(),
    selfSigned: certificate.checkIssued(certificate) && certificate.verify(certificate.publicKey),
  };
}

/**
 * Trust in one server: by pin where there is one, else by the authorities given, else by those Node brings along.
 *
 * A pinned certificate becomes the only authority, so that Node itself refuses every other one. A leaf that an authority
 * signed needs `allowPartialTrustChain` for that (R33).
 *
 * @throws CertificateChanged when the server presents another certificate than the pinned one.
 */
export async function trustFor(input: { url: string; fingerprintSha256?: string; caFile?: string }): Promise<Trust> {
  if (input.fingerprintSha256 === undefined) {
    return { ca: input.caFile ? await readFile(input.caFile, 'utf8') : tls.rootCertificates.join('\n') };
  }
  const certificate = await fetchCertificate(input.url);
  if (!sameFingerprint(certificate.fingerprintSha256, input.fingerprintSha256)) {
    throw certificateChanged(input.url, input.fingerprintSha256, certificate);
  }
  return { certificate, ca: certificate.pem, allowPartialTrustChain: true };
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

// X509Certificate gives names as lines: "CN=vcenter.example\nO=...".
function commonName(name: string): string {
  return /^CN=(.*)$/m.exec(name)?.[1] ?? name;
}
