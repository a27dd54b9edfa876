import { endpointOptions } from '../config.js';
import type { Config, EndpointOptions } from '../config.js';
import type { LoginGuard } from '../shared/login-guard.js';
import { LoginPace } from '../shared/login-pace.js';
import { createVsphere } from '../vsphere/index.js';
import { createXapi } from '../xapi/index.js';
import type { Deps } from './deps.js';
import { loginGuard } from './refused-logins.js';

/**
 * Real dependencies of a worker: a client for each configured endpoint, made when first used, and made anew when its
 * password has changed since.
 */
export function connectDeps(config: Config): Deps & { close(): Promise<void> } {
  const vcenters = new Clients(config, 'vcenters', createVsphere);
  const pools = new Clients(config, 'pools', createXapi);
  return {
    config,
    vsphere: (name) => vcenters.of(name).client,
    vsphereLogins: (name) => vcenters.of(name).guard,
    xapi: (name) => pools.of(name).client,
    async close() {
      await Promise.allSettled([vcenters.close(), pools.close()]);
    },
  };
}

class Clients<T extends { close(): Promise<void> }> {
  readonly #config: Config;
  readonly #kind: 'vcenters' | 'pools';
  readonly #make: (options: EndpointOptions & { guard: LoginGuard }) => T;
  readonly #made = new Map<string, { password: string; client: T; guard: LoginGuard }>();
  readonly #paces = new Map<string, LoginPace>();
  /** Of an earlier password: what is under way on them may end there. */
  readonly #replaced: T[] = [];

  constructor(
    config: Config,
    kind: 'vcenters' | 'pools',
    make: (options: EndpointOptions & { guard: LoginGuard }) => T,
  ) {
    this.#config = config;
    this.#kind = kind;
    this.#make = make;
  }

  of(name: string): { client: T; guard: LoginGuard } {
    const options = endpointOptions(this.#config, this.#kind, name);
    const known = this.#made.get(name);
    if (known?.password === options.password) return known;
    if (known) this.#replaced.push(known.client);
    const guard = loginGuard(this.#config, this.#kind, name, options, this.#paceOf(name));
    const made = { password: options.password, client: this.#make({ ...options, guard }), guard };
    this.#made.set(name, made);
    return made;
  }

  #paceOf(name: string): LoginPace | undefined {
    const perMinute = this.#kind === 'vcenters' ? this.#config.vcenters[name]?.loginsPerMinute : undefined;
    if (perMinute !== undefined && !this.#paces.has(name)) this.#paces.set(name, new LoginPace(perMinute));
    return this.#paces.get(name);
  }

  async close(): Promise<void> {
    const all = [...this.#replaced, ...[...this.#made.values()].map(({ client }) => client)];
    await Promise.allSettled(all.map((client) => client.close()));
  }
}
