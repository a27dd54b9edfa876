import { createServer, type AddressInfo } from 'node:net';
import { hostname } from 'node:os';
import { describe, expect, it } from 'vitest';
import { probeReach } from '../../src/activities/reach.js';

/** A port on which something answers, and one on which nothing does. */
async function ports(): Promise<{ open: number; closed: number; end: () => void }> {
  const [server, other] = [createServer(), createServer()];
  await Promise.all([server, other].map((one) => new Promise<void>((done) => one.listen(0, '127.0.0.1', done))));
  const [open, closed] = [server, other].map((one) => (one.address() as AddressInfo).port) as [number, number];
  await new Promise((done) => other.close(done));
  return { open, closed, end: () => server.close() };
}

describe('probeReach', () => {
  it('[S57] [S58] names the closed ports, each with its host, and says nothing of open ones', async () => {
    const { open, closed, end } = await ports();
    const found = await probeReach([
      { host: '127.0.0.1', port: open, what: 'vCenter vc' },
      { host: '127.0.0.1', port: closed, what: 'ESXi host esx1' },
      { host: 'localhost', port: closed, what: 'ESXi host esx2' },
    ]);
    end();
    expect(found).toMatchObject([
      {
        code: 'N7',
        severity: 'error',
        object: 'ESXi host esx1',
        observed: `127.0.0.1:${closed} cannot be reached from ${hostname()} (ECONNREFUSED).`,
        expected: `an open port ${closed}`,
      },
      { code: 'N7', object: 'ESXi host esx2' },
    ]);
  });

  it('[S58] tells a name that does not resolve from a port that is closed', async () => {
    const found = await probeReach([{ host: 'esx9.invalid', port: 902, what: 'ESXi host esx9.invalid' }]);
    expect(found).toMatchObject([{ code: 'N6', severity: 'error', object: 'ESXi host esx9.invalid' }]);
    expect(found[0]?.observed).toMatch(/^The name esx9\.invalid does not resolve on /);
  });
});
