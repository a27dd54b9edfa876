/**
 * Owns the single steps: each calls an adapter, may run twice, and speaks in failures. Decides nothing about order, and
 * knows no wire format.
 */
import { withBeats } from './beating.js';
import type { Deps } from './deps.js';
import { preflight } from './preflight.js';
import { sourceActivities } from './source.js';
import { targetActivities } from './target.js';
import type { Activities } from './types.js';

/** Steps of the transfer workers; they beat for themselves, with their progress. */
export { transferActivities as createTransferActivities } from './transfer.js';
export type * from './types.js';
export type { Deps } from './deps.js';

/** Steps of the orchestrator: SOAP and XAPI calls. */
export function createActivities(deps: Deps): Activities {
  return withBeats<Activities>({
    preflight: (input) => preflight(deps, input),
    ...sourceActivities(deps),
    ...targetActivities(deps),
  });
}
