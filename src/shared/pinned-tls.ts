import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import tls from 'node:tls';
import { failure } from './errors.js';

/** How a server is recognised: by this certificate and no other authority. */
export interface PinnedTls {
  /** PEM: the server's own certificate (pinned), or the authorities to trust. */
  ca: string;
  /** A CA-signed certificate may be pinned by itself, without its chain. */
  allowPartialTrustChain?: true;
}

/** A server's certificate, as it presented it, before anyone has decided to trust it. */
export interface PresentedCertificate {
  pem: string;
  /** `AA:BB:...`, what `fingerprintSha256` is compared with. */
  fingerprintSha256: string;
  /** `AA:BB:...`, what VDDK calls the thumbprint. */
  thumbprintSha1: string;
  subject: string;
  issuer: string;
  validTo: string;
  selfSigned: boolean;
}

/**
 * Options for `tls.connect` and `https.request`. Verification stays on. The pinned certificate is its own proof of
 * identity, so its names are not compared: hosts are often addressed by an IP that is not in it. A certificate that is
 * only signed by one in `ca` has its names checked as usual.
 */
export function pinnedTlsOptions(pin: PinnedTls): tls.ConnectionOptions {
  const pems = pin.ca.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  const pinned = new Set(pems.map((pem) => new X509Certificate(pem).fingerprint256));
  return {
    ca: pin.ca,
    minVersion: 'TLSv1.2',
    ...(pin.allowPartialTrustChain ? { allowPartialTrustChain: true } : {}),
    checkServerIdentity: (host, certificate) =>
      pinned.has(certificate.fingerprint256) ? undefined : tls.checkServerIdentity(host, certificate),
  };
}

/**
 * Trust in one server: by pin where there is one, else by the authorities given, else by those Node brings along.
 *
 * A pinned certificate becomes the only authority, so that Node itself refuses every other one. A leaf that an authority
 * signed needs `allowPartialTrustChain` for that (R33).
 *
 * @throws CertificateChanged when the server presents another certificate than the pinned one, ConnectionFailed.
 */
export async function trustFor(server: {
  url: string;
  fingerprintSha256?: string;
  caFile?: string;
}): Promise<PinnedTls> {
  const { url, fingerprintSha256: pinned, caFile } = server;
  if (pinned === undefined) return { ca: caFile ? await readFile(caFile, 'utf8') : tls.rootCertificates.join('\n') };
  const { pem } = await fetchAsPinned(url, pinned);
  return { ca: pem, allowPartialTrustChain: true };
}

/**
 * The certificate a server presents, equal to the pin where one is given.
 *
 * @throws CertificateChanged, ConnectionFailed
 */
export async function fetchAsPinned(url: string, pinned: string | undefined): Promise<PresentedCertificate> {
  const presented = await fetchCertificate(url);
  if (pinned === undefined || sameFingerprint(presented.fingerprintSha256, pinned)) return presented;
  throw certificateChanged(url, pinned, presented);
}

/**
 * Asks a server for its certificate without trusting it, for a person to look at. Sends nothing but the handshake.
 *
 * @throws ConnectionFailed when nobody answers there within 10 seconds, or answers without TLS.
 */
export async function fetchCertificate(url: string): Promise<PresentedCertificate> {
  const { hostname, port } = addressOf(url);
  const certificate = await handshake(hostname, port).catch((error: unknown) => {
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

function handshake(host: string, port: number, timeoutMs = 10_000): Promise<X509Certificate> {
  return new Promise((resolve, reject) => {
    const servername = /[a-z]/i.test(host) ? { servername: host } : {};
    const socket = tls.connect({ host, port, rejectUnauthorized: false, ...servername });
    socket.setTimeout(timeoutMs, () =>
      socket.destroy(new Error(`no TLS answer from ${host}:${port} in ${timeoutMs} ms`)),
    );
    socket.on('error', reject);
    socket.once('secureConnect', () => {
      const certificate = socket.getPeerX509Certificate();
      // Not `destroy`: with TLS 1.3 our last handshake message may not have left, and the server would wait for it.
      socket.end();
      socket.resume();
      if (certificate) resolve(certificate);
      else reject(new Error(`${host}:${port} presented no certificate`));
    });
  });
}

/** Host and port of an https address; an IPv6 address loses its brackets. */
export function addressOf(url: string): { hostname: string; port: number } {
  const { hostname, port } = new URL(url);
  return { hostname: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 443) };
}

/** Compares two fingerprints; case and separators do not matter. */
export function sameFingerprint(one: string, other: string): boolean {
  const plain = (text: string) => text.replace(/[^0-9a-fA-F]/g, '').toUpperCase();
  return plain(one) === plain(other);
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

// X509Certificate gives names as lines: "CN=vcenter.example\nO=...".
function commonName(name: string): string {
  return /^CN=(.*)$/m.exec(name)?.[1] ?? name;
}
