import { createHash, X509Certificate } from 'node:crypto';
import { generate } from 'selfsigned';

export interface TestCertificate {
  key: string;
  cert: string;
  thumbprintSha1: string;
}

/** A self-signed certificate for 127.0.0.1, or for another name. */
export async function testCertificate(name = '127.0.0.1'): Promise<TestCertificate> {
  const made = await generate([{ name: 'commonName', value: name }], { keyType: 'ec', algorithm: 'sha256' });
  const raw = new X509Certificate(made.cert).raw;
  const sha1 = createHash('sha1').update(raw).digest('hex').toUpperCase();
  return { key: made.private, cert: made.cert, thumbprintSha1: sha1.match(/../g)?.join(':') ?? '' };
}
