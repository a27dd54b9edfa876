import { createHash } from 'node:crypto';
import { createServer } from 'node:net';
import { resolve } from 'node:path';
import { failure } from '../../shared/index.js';

/**
 * Makes this process the only one that runs a server on a database file. Temporal's own lock on it (1.31, SQLite) is not
 * always held when a second server looks, and two servers on one file would run every migration twice.
 *
 * The lock is an abstract socket: taken in one step, and gone with the process, however it ends.
 *
 * @returns Gives it up.
 * @throws TemporalUnreachable when another process holds it.
 */
export function holdDatabase(dbFile: string): Promise<() => void> {
  const name = createHash('sha256').update(resolve(dbFile)).digest('hex').slice(0, 32);
  return new Promise((held, reject) => {
    const lock = createServer();
    lock.once('error', (error) =>
      reject(
        failure('TemporalUnreachable', {
          what: `The database ${dbFile} is open in another \`surefire up\`.`,
          why: error.message.replaceAll('\0', '@'),
          next: 'stop that one, or name another file with --db.',
        }),
      ),
    );
    lock.listen(`\0surefire-up-${name}`, () => held(() => void lock.close()));
    lock.unref();
  });
}
