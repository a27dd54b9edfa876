import { prepareNamespace, RETENTION_DAYS } from '../../namespace.js';
import { ATTRIBUTES } from '../../workflows/attributes.js';
import type { Context } from '../context.js';

/** A server that was started a moment ago needs seconds. */
const READY_MS = 120_000;

/** Makes a Temporal server ready that others run (design 15): namespace, retention, search attributes. May run twice. */
export async function prepare(context: Context): Promise<void> {
  const { temporal } = context.config();
  const { address, namespace } = temporal;
  await prepareNamespace(temporal, Date.now() + READY_MS);
  const attributes = Object.values(ATTRIBUTES).map(({ name }) => name);
  context.result(
    { address, namespace, leastRetentionDays: RETENTION_DAYS, attributes },
    `Namespace ${namespace} of ${address} is ready: ${attributes.length} search attributes, ended migrations are kept for ${RETENTION_DAYS} days or longer.`,
  );
}
