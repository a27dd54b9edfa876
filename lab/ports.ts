import { createServer } from 'node:net';

/**
 * The port of an earlier run where it is free on 127.0.0.1, else 0 (any): a lab that starts again is then found under
 * its old addresses, and two labs never quarrel.
 */
export async function portToUse(earlier: number | undefined): Promise<number> {
  if (earlier === undefined) return 0;
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(0));
    probe.listen(earlier, '127.0.0.1', () => probe.close(() => resolve(earlier)));
  });
}

/** The wished port where it is free on 127.0.0.1, else one that the system chooses; always a number to write down. */
export async function freePort(wished: number): Promise<number> {
  for (const port of [wished, 0]) {
    const free = await new Promise<number | undefined>((resolve) => {
      const probe = createServer();
      probe.once('error', () => resolve(undefined));
      probe.listen(port, '127.0.0.1', () => {
        const address = probe.address();
        probe.close(() => resolve(typeof address === 'object' ? address?.port : undefined));
      });
    });
    if (free !== undefined) return free;
  }
  throw new Error('no port is free on 127.0.0.1');
}
