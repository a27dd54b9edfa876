import type { Config } from '../config.js';
import { failureMessageOf, hasErrors } from '../shared/index.js';
import type { Finding, FindingCode } from '../shared/index.js';
import { fetchCertificate, sameFingerprint, trustFor } from '../shared/pinned-tls.js';
import type { Deps } from './deps.js';

/** A vCenter: its certificate, our login, our rights. One attempt at most; what fails is a finding, not an error. */
export async function checkVcenter(deps: Deps, name: string): Promise<Finding[]> {
  const trusted = await checkCertificate(deps.config, 'vcenters', name);
  if (hasErrors(trusted)) return trusted;
  return attempt(trusted, `vCenter ${name}`, async () => {
    const client = deps.vsphere(name);
    const { productName, apiVersion } = await client.about();
    const rights = await client.checkPrivileges();
    return [info('vcenter', `vCenter ${name}`, `${productName}, API ${apiVersion}, logged in.`), ...rights];
  });
}

/** A pool: its certificate and our login. */
export async function checkPool(deps: Deps, name: string): Promise<Finding[]> {
  const trusted = await checkCertificate(deps.config, 'pools', name);
  if (hasErrors(trusted)) return trusted;
  return attempt(trusted, `Pool ${name}`, async () => {
    const { productVersion, hostAddresses } = await deps.xapi(name).about();
    return [info('pool', `Pool ${name}`, `${productVersion}, ${hostAddresses.length} hosts, logged in.`)];
  });
}

/** What the server presents, and how to trust it when nothing says so yet. */
async function checkCertificate(config: Config, kind: 'vcenters' | 'pools', name: string): Promise<Finding[]> {
  const object = `${kind === 'pools' ? 'Pool' : 'vCenter'} ${name}`;
  return attempt([], object, async () => {
    // A name that nobody knows is told by whoever uses it, with the names there are.
    const endpoint = config[kind][name];
    if (endpoint === undefined) return [];
    const presented = await fetchCertificate(endpoint.url);
    const seen = `presents ${presented.fingerprintSha256} (${presented.subject}, ${presented.selfSigned ? 'self-signed' : `by ${presented.issuer}`}, until ${presented.validTo})`;
    const { fingerprintSha256: pin, caFile } = endpoint;
    if (pin !== undefined && sameFingerprint(pin, presented.fingerprintSha256))
      return [info('certificate', object, `It ${seen}; that is the pinned one.`)];
    if (pin === undefined && (caFile !== undefined || !presented.selfSigned)) {
      await trustFor({ url: endpoint.url, caFile });
      return [info('certificate', object, `It ${seen}; the configured authorities are asked at login.`)];
    }
    const why = pin === undefined ? 'nothing says that it is to be trusted' : `pinned is ${pin}`;
    return [
      {
        code: 'certificate',
        severity: 'error',
        object,
        observed: `It ${seen}; ${why}.`,
        expected: 'a certificate of a trusted authority, or the pinned one',
        remedy: `compare it with the server's own console; if it is the same, set ${kind}.${name}.fingerprintSha256: "${presented.fingerprintSha256}".`,
      },
    ];
  });
}

/** An endpoint that fails is a finding like the others, so that one look shows them all. */
export async function attempt(before: Finding[], object: string, look: () => Promise<Finding[]>): Promise<Finding[]> {
  try {
    return [...before, ...(await look())];
  } catch (error) {
    const [observed = '', ...rest] = failureMessageOf(error).split('\n');
    const remedy = rest.find((line) => line.startsWith('Next: '))?.slice('Next: '.length) ?? '';
    const why = rest.filter((line) => !line.startsWith('Next: ')).join(' ');
    const expected = 'it answers, and we may log in';
    return [
      ...before,
      { code: 'endpoint', severity: 'error', object, observed: `${observed} ${why}`.trim(), expected, remedy },
    ];
  }
}

export function info(code: FindingCode, object: string, observed: string): Finding {
  return { code, severity: 'info', object, observed, expected: '', remedy: '' };
}
