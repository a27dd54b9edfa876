import { setTimeout as sleep } from 'node:timers/promises';
import { Connection } from '@temporalio/client';
import { failure } from '../../shared/index.js';
import { ATTRIBUTES } from '../../workflows/attributes.js';

const RETENTION_DAYS = 90;

/** `IndexedValueType` of temporal.api.enums.v1, by the names that attribute keys carry. */
const INDEXED_VALUE = { TEXT: 1, KEYWORD: 2, INT: 3, DOUBLE: 4, BOOL: 5, DATETIME: 6, KEYWORD_LIST: 7 } as const;

/**
 * Makes a running server ready for us: waits for the namespace, keeps ended migrations for 90 days (the development
 * server's own default is one) and registers the search attributes. Changes nothing when all is there already.
 *
 * @throws TemporalUnreachable when the server does not answer before `deadlineMs`, an epoch time.
 * @throws ConfigInvalid when an attribute exists with another type.
 */
export async function prepareNamespace(address: string, namespace: string, deadlineMs: number): Promise<void> {
  // A restarted server opens its port before its parts know each other, so the first calls may fail.
  await until(deadlineMs, address, async () => {
    const connection = await Connection.connect({ address, connectTimeout: 1000 });
    try {
      await connection.workflowService.updateNamespace({
        namespace,
        config: { workflowExecutionRetentionTtl: { seconds: protoLong(RETENTION_DAYS * 86_400) } },
      });
      await registerAttributes(connection, namespace);
    } finally {
      await connection.close();
    }
  });
}

async function registerAttributes({ operatorService }: Connection, namespace: string): Promise<void> {
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
