import type { Deps } from '../activities/deps.js';
import type { Config } from '../config.js';
import { failure } from '../shared/index.js';

export interface Named {
  uuid: string;
  name: string;
}

/** Where the disks and network cards of one VM go, by identity. */
export interface ResolvedTarget {
  sr: Named;
  /** By the name of the source network. */
  networks: Record<string, Named>;
}

export interface TargetWishes {
  /** Name or uuid; without it the pool's configured one. */
  sr?: string;
  networkNames: readonly string[];
  /** Source network to target network, before the pool's own map. */
  overrides: Record<string, string>;
}

/**
 * Turns the names of a storage repository and of networks into uuids of the pool.
 *
 * @throws UsageInvalid when a name fits none or several, or when a source network has no place to go.
 */
export async function resolveTarget(
  deps: Deps,
  config: Config,
  pool: string,
  wishes: TargetWishes,
): Promise<ResolvedTarget> {
  const xapi = deps.xapi(pool);
  const settings = config.pools[pool]!;
  const [srs, all] = await Promise.all([xapi.listSrs(), xapi.listNetworks()]);
  const map = { ...settings.networks, ...wishes.overrides };
  const networks = [...new Set(wishes.networkNames)]
    .filter((name) => name !== 'default')
    .map((name) => {
      const wanted = Object.hasOwn(map, name) ? map[name] : map['default'];
      if (wanted === undefined) throw unmapped(name, pool);
      return [name, pick(all, wanted, `network for "${name}"`, pool, '--network')] as const;
    });
  return {
    sr: pick(srs, wishes.sr ?? settings.sr, 'SR', pool, '--sr'),
    networks: Object.fromEntries(networks),
  };
}

function pick(all: readonly Named[], wanted: string, kind: string, pool: string, option: string): Named {
  const [first, ...others] = all.filter(({ uuid, name }) => uuid === wanted || name === wanted);
  if (first !== undefined && others.length === 0) return { uuid: first.uuid, name: first.name };
  const fitting = first === undefined ? all : [first, ...others];
  throw failure('UsageInvalid', {
    what: `Pool ${pool} has ${first === undefined ? 'no' : `${others.length + 1}`} ${kind} called "${wanted}".`,
    why: `${first === undefined ? 'There are' : 'They are'}: ${fitting.map(({ name, uuid }) => `${name} (${uuid})`).join(', ') || 'none'}.`,
    next: `name one by its uuid in the configuration or with ${option}.`,
  });
}

function unmapped(name: string, pool: string): Error {
  return failure('UsageInvalid', {
    what: `Network "${name}" of the source has no target network in pool ${pool}.`,
    next: `add it, or a \`default\`, under pools.${pool}.networks, or give --network "${name}=TARGET".`,
  });
}
