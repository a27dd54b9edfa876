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
 * @throws TargetNotFound when a name fits none or several, UsageInvalid when a source network has no place to go.
 */
export async function resolveTarget(
  deps: Deps,
  config: Config,
  pool: string,
  wishes: TargetWishes,
): Promise<ResolvedTarget> {
  const xapi = deps.xapi(pool);
  const settings = config.pools[pool]!;
  const map = { ...settings.networks, ...wishes.overrides };
  const { uuid, name } = await xapi.findSr(wishes.sr ?? settings.sr);
  const networks: Record<string, Named> = {};
  for (const source of new Set(wishes.networkNames)) {
    const wanted = Object.hasOwn(map, source) ? map[source] : map['default'];
    if (wanted === undefined) {
      throw failure('UsageInvalid', {
        what: `Network "${source}" of the source has no target network in pool ${pool}.`,
        next: `add it, or a \`default\`, under pools.${pool}.networks, or give --network "${source}=TARGET".`,
      });
    }
    networks[source] = await xapi.findNetwork(wanted);
  }
  return { sr: { uuid, name }, networks };
}
