import { Duplex } from 'node:stream';
import { expect, it } from 'vitest';
import { Monitor } from '../../lab/xcpng/qmp.js';

it('a machine that is killed with a question unread is gone, and takes nobody along', async () => {
  const stream = new Duplex({ read: () => undefined, write: (_bytes, _encoding, done) => done() });
  const monitor = new Monitor(stream, () => undefined);
  const answer = monitor.execute('query-status');
  stream.destroy(Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' }));
  await expect(answer).rejects.toThrow('The machine is gone.');
  await expect(monitor.execute('query-status')).rejects.toThrow('The machine is gone.');
});
