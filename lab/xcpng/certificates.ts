import { X509Certificate } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { generate } from 'selfsigned';

/** A host's certificate and key, as PEM. */
export interface HostCertificate {
  key: string;
  cert: string;
  /** SHA-256 of the certificate: `AA:BB:...`. */
  fingerprintSha256: string;
}

/** What a host is called in its certificate. */
export const hostName = (name: string): string => `lab-${name}`;

/** The host's self-signed certificate: made once per state folder, then kept. */
export async function hostCertificate(stateDir: string, name: string, address: string): Promise<HostCertificate> {
  const file = join(stateDir, `${name}.pem.json`);
  if (!existsSync(file)) {
    const made = await generate([{ name: 'commonName', value: address }], {
      keyType: 'ec',
      algorithm: 'sha256',
      notAfterDate: new Date(Date.now() + 10 * 365 * 86_400_000),
      extensions: [
        { name: 'basicConstraints', cA: true },
        {
          name: 'subjectAltName',
          altNames: [
            { type: 7, ip: address },
            { type: 2, value: hostName(name) },
          ],
        },
      ],
    });
    writeFileSync(file, JSON.stringify({ key: made.private, cert: made.cert }), { mode: 0o600 });
  }
  const { key, cert } = JSON.parse(readFileSync(file, 'utf8')) as { key: string; cert: string };
  return { key, cert, fingerprintSha256: new X509Certificate(cert).fingerprint256 };
}
