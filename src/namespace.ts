import { setTimeout as sleep } from 'node:timers/promises';
import { isGrpcServiceError } from '@temporalio/client';
import type { OperatorService, WorkflowService } from '@temporalio/client';
import { connectTemporal } from './temporal-connection.js';
import type { TemporalServer } from './temporal-connection.js';
import { failure } from './shared/errors.js';
import { ATTRIBUTES } from './workflows/attributes.js';

/** How long ended migrations are kept at least: a success must not be repeated by accident, and audits ask late. */
export const RETENTION_DAYS = 90;

/** `IndexedValueType` of temporal.api.enums.v1, by the names that attribute keys carry. */
const INDEXED_VALUE = { TEXT: 1, KEYWORD: 2, INT: 3, DOUBLE: 4, BOOL: 5, DATETIME: 6, KEYWORD_LIST: 7 } as const;
/** gRPC status code. */
const NOT_FOUND = 5;

/** What both kinds of connection offer, a client's and a worker's. */
interface Services {
  workflowService: WorkflowService;
  operatorService: OperatorService;
}

/**
 * Makes a running server ready for us: the namespace is there, keeps ended migrations for 90 days or longer, and knows
 * the search attributes. Changes nothing when all is there already.
 *
 * @throws TemporalUnreachable when that has not succeeded by `deadlineMs`, an epoch time.
 * @throws ConfigInvalid when an attribute exists with another type.
 */
export async function prepareNamespace(server: TemporalServer, deadlineMs: number): Promise<void> {
  const { address, namespace } = server;
  // A restarted server opens its port before its parts know each other, and a namespace made this second is not found
  // for about one more: the first calls may fail.
  await until(deadlineMs, address, async () => {
    const connection = await connectTemporal(server, 1000);
    try {
      await keepLongEnough(connection, namespace);
      await registerAttributes(connection, namespace);
    } finally {
      await connection.close();
    }
  });
}

/** Names of the search attributes that the namespace does not know. A workflow that sets one of them stands still. */
export async function missingAttributes({ operatorService }: Services, namespace: string): Promise<string[]> {
  const { customAttributes } = await operatorService.listSearchAttributes({ namespace });
  return Object.values(ATTRIBUTES)
    .map(({ name }) => name)
    .filter((name) => !(name in (customAttributes ?? {})));
}

async function keepLongEnough({ workflowService }: Services, namespace: string): Promise<void> {
  const retention = { seconds: protoLong(RETENTION_DAYS * 86_400) };
  try {
    const { config } = await workflowService.describeNamespace({ namespace });
    if (Number(config?.workflowExecutionRetentionTtl?.seconds ?? 0) >= RETENTION_DAYS * 86_400) return;
  } catch (error) {
    if (!isGrpcServiceError(error) || (error.code as number) !== NOT_FOUND) throw error;
    await workflowService.registerNamespace({ namespace, workflowExecutionRetentionPeriod: retention });
    return;
  }
  // The development server's own default is one day.
  await workflowService.updateNamespace({ namespace, config: { workflowExecutionRetentionTtl: retention } });
}

async function registerAttributes({ operatorService }: Services, namespace: string): Promise<void> {
  const { customAttributes } = await operatorService.listSearchAttributes({ namespace });
  const wanted = Object.values(ATTRIBUTES).map(({ name, type }) => [name, INDEXED_VALUE[type]] as const);
  const wrong = wanted.filter(([name, type]) => (customAttributes?.[name] ?? type) !== type).map(([name]) => name);
  if (wrong.length > 0) {
    throw failure('ConfigInvalid', {
      what: `Namespace ${namespace} has search attributes of another type: ${wrong.join(', ')}.`,
      why: 'Another program or an older version registered them.',
      next: 'remove them with `temporal operator search-attribute remove`, or use another namespace.',
    });
  }
  const missing = wanted.filter(([name]) => !(name in (customAttributes ?? {})));
  if (missing.length === 0) return;
  await operatorService.addSearchAttributes({ namespace, searchAttributes: Object.fromEntries(missing) });
}

async function until(deadlineMs: number, address: string, attempt: () => Promise<void>): Promise<void> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (error instanceof Error && 'type' in error && error.type === 'ConfigInvalid') throw error;
      if (Date.now() > deadlineMs) {
        const why = error instanceof Error ? error.message : String(error);
        throw failure('TemporalUnreachable', { what: `Temporal at ${address} is not ready.`, why }, undefined, error);
      }
      await sleep(100);
    }
  }
}

/** The wire type of a 64-bit number; the client's own library for it is not ours to import. */
function protoLong(value: number): never {
  return { low: value, high: 0, unsigned: false } as never;
}
