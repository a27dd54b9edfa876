import { XapiError } from '../errors.js';
import { eventsFrom, formatToken } from '../events.js';
import type { Behaviour } from '../methods.js';
import type { Call } from '../pool.js';
import { acceptValue, formatDate } from '../values.js';
import { classes } from '../datamodel.js';

/** Sessions, tasks and events: what every client needs before it does anything. */
export const sessionCalls: Record<string, Behaviour> = {
  'session.login_with_password': async ({ pool, hostRef }: Call, user: string, password: string, ...rest: string[]) => {
    if (user !== 'root' || password !== pool.password) {
      await new Promise((resolve) => setTimeout(resolve, pool.timing.loginFailureDelayMs));
      throw new XapiError('SESSION_AUTHENTICATION_FAILED', [user, 'Authentication failure']);
    }
    const now = formatDate();
    const ref = pool.db.create('session', {
      this_host: hostRef,
      last_active: now,
      validation_time: now,
      is_local_superuser: true,
      auth_user_name: user,
      originator: rest[1] ?? '',
    });
    pool.calls.sessions.push(ref);
    return ref;
  },
  'session.logout': ({ pool, session }: Call) => pool.db.delete('session', session),

  'task.create': ({ pool, hostRef }: Call, label: string, description: string) =>
    pool.tasks.create(label, description, hostRef),
  'task.destroy': ({ pool }: Call, task: string) => pool.tasks.destroy(task),
  'task.cancel': ({ pool }: Call, task: string) => pool.tasks.cancel(task),
  'task.set_status': ({ pool }: Call, task: string, status: string) => pool.tasks.setStatus(task, status),
  'task.set_progress': ({ pool }: Call, task: string, progress: number) => pool.tasks.setProgress(task, progress),

  'event.from': ({ pool, session }: Call, names: string[], token: string, timeoutSeconds: number) =>
    eventsFrom(pool, session, names, token, timeoutSeconds),
  // The token lies just before the touch, so that an `event.from` with it answers at once.
  'event.inject': ({ pool }: Call, name: string, ref: string) => {
    const cls = [...classes.keys()].find((candidate) => candidate.toLowerCase() === name.toLowerCase());
    acceptValue({ kind: 'string' }, cls, 'class');
    pool.db.get(cls as string, ref);
    const token = formatToken(pool.db.generation);
    pool.db.touch(cls as string, ref);
    return token;
  },
  'event.get_current_id': ({ pool }: Call) => pool.db.generation,
};
