import { endpointOptions } from '../config.js';
import type { Config } from '../config.js';
import { createVsphere } from '../vsphere/index.js';
import type { Vsphere } from '../vsphere/index.js';
import { createXapi } from '../xapi/index.js';
import type { Xapi } from '../xapi/index.js';
import type { Deps } from './deps.js';

/** Real dependencies of a worker: a client for each configured endpoint, made when first used. */
export function connectDeps(config: Config): Deps & { close(): Promise<void> } {
  const vcenters = new Map<string, Vsphere>();
  const pools = new Map<string, Xapi>();
  return {
    config,
    vsphere: (name) => once(vcenters, name, () => createVsphere(endpointOptions(config, 'vcenters', name))),
    xapi: (name) => once(pools, name, () => createXapi(endpointOptions(config, 'pools', name))),
    async close() {
      await Promise.allSettled([...vcenters.values(), ...pools.values()].map((client) => client.close()));
    },
  };
}

function once<T>(made: Map<string, T>, name: string, make: () => T): T {
  let client = made.get(name);
  if (client === undefined) {
    client = make();
    made.set(name, client);
  }
  return client;
}
