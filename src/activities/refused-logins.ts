import { randomBytes, scryptSync, timingSafeEqual } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Config, EndpointOptions } from '../config.js';
import { failure } from '../shared/index.js';
import type { LoginGuard } from '../shared/login-guard.js';
import type { LoginPace } from '../shared/login-pace.js';

interface Refusal {
  at: string;
  url: string;
  username: string;
  salt: string;
  /** Of the password: whether it has changed since can be seen, but not what it was. */
  digest: string;
}

/**
 * Remembers in the state folder which login an endpoint refused, so that neither another attempt of an activity, nor the
 * other worker, nor the next command of an operator tries it again. Another password or user is tried at once.
 *
 * @param pace Of this endpoint, whatever the password; without one logins are not counted.
 */
export function loginGuard(
  config: Config,
  kind: 'vcenters' | 'pools',
  name: string,
  login: EndpointOptions,
  pace?: LoginPace,
): LoginGuard {
  const file = join(config.state.dir, 'refused-logins', `${kind}-${encodeURIComponent(name)}.json`);
  const { url, username, password } = login;
  const digestOf = (salt: string) => scryptSync(password, Buffer.from(salt, 'base64'), 32);
  return {
    async check(signal) {
      await pace?.turn(signal);
      const text = await readFile(file, 'utf8').catch(() => undefined);
      if (text === undefined) return;
      const kept = JSON.parse(text) as Refusal;
      if (kept.url !== url || kept.username !== username) return;
      if (!timingSafeEqual(Buffer.from(kept.digest, 'base64'), digestOf(kept.salt))) return;
      const { passwordFile, passwordEnv } = config[kind][name] ?? {};
      throw failure('AuthenticationFailed', {
        what: `${new URL(url).hostname} refuses the login of "${username}".`,
        why: `It did so at ${kept.at}, and the password is still the same: it is not tried again, because accounts lock.`,
        next: `correct the password in ${passwordFile ?? passwordEnv}; if only the account was locked, delete ${file}.`,
      });
    },
    async refused() {
      const salt = randomBytes(16).toString('base64');
      const kept: Refusal = {
        at: new Date().toISOString(),
        url,
        username,
        salt,
        digest: digestOf(salt).toString('base64'),
      };
      await mkdir(dirname(file), { recursive: true, mode: 0o700 });
      await writeFile(file, JSON.stringify(kept), { mode: 0o600 });
    },
  };
}
