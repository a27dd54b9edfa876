import { X509Certificate } from 'node:crypto';
import tls from 'node:tls';

/** How a server is recognised: by this certificate and no other authority. */
export interface PinnedTls {
  /** PEM: the server's own certificate (pinned), or the authorities to trust. */
  ca: string;
  /** A CA-signed certificate may be pinned by itself, without its chain. */
  allowPartialTrustChain?: true;
}

/**
 * Options for `tls.connect` and `https.request`. Verification stays on. The pinned certificate is its own proof of
 * identity, so its names are not compared: hosts are often addressed by an IP that is not in it. A certificate that is
 * only signed by one in `ca` has its names checked as usual.
 */
export function pinnedTlsOptions(pin: PinnedTls): tls.ConnectionOptions {
  const pinned = new Set(
    (pin.ca.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).map(fingerprint),
  );
  return {
    ca: pin.ca,
    minVersion: 'TLSv1.2',
    ...(pin.allowPartialTrustChain ? { allowPartialTrustChain: true } : {}),
    checkServerIdentity: (host, certificate) =>
      pinned.has(certificate.fingerprint256) ? undefined : tls.checkServerIdentity(host, certificate),
  };
}

function fingerprint(pem: string): string {
  return new X509Certificate(pem).fingerprint256;
}

/**
 * Fetches the certificate that a server presents, without trusting it: for the first look, before a person accepts it.
 * Nothing is sent to that server.
 */
export function fetchCertificate(host: string, port: number, timeoutMs = 10_000): Promise<X509Certificate> {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({
      host,
      port,
      rejectUnauthorized: false,
      ...(/[a-z]/i.test(host) ? { servername: host } : {}),
    });
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
