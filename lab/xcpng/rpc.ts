import { setTimeout as delay } from 'node:timers/promises';
import type { TypeSpec, Value } from './datamodel.js';
import { XapiError, asXapiError } from './errors.js';
import { methodNamed, methodNames, type Method } from './methods.js';
import type { Call, Pool } from './pool.js';
import { acceptValue } from './values.js';
import { formatXmlValue } from './xmlrpc.js';

/** A result together with its type, which XML-RPC needs to write dates and floats. */
export interface TypedResult {
  value: Value;
  type: TypeSpec;
}

/** The call was done, but its answer is not to arrive. */
export class AnswerLost extends Error {}

/** Of these a call can be said to be about one: they have names and marks of their own. */
const CLASSES_OF_OBJECTS = ['VM', 'VDI', 'VBD', 'VIF', 'network', 'task'];

const LIST: TypeSpec = { kind: 'set', of: { kind: 'string' } };

/**
 * Runs one API call, whatever envelope it came in.
 *
 * Checks in XAPI's order: method, number of arguments, slave, session, types.
 * @throws XapiError
 */
export async function dispatch(pool: Pool, hostRef: string, name: string, args: unknown[]): Promise<TypedResult> {
  const entry = pool.calls.add(hostRef === pool.masterRef ? 'master' : 'slave', name, args.slice(1));
  try {
    return await run(pool, hostRef, name, args);
  } catch (error) {
    if (error instanceof AnswerLost) throw error;
    const failure = asXapiError(error);
    entry.error = failure.code;
    throw failure;
  } finally {
    pool.db.flush();
  }
}

async function run(pool: Pool, hostRef: string, name: string, args: unknown[]): Promise<TypedResult> {
  if (name === 'system.listMethods') return { value: methodNames(), type: LIST };
  const isAsync = name.startsWith('Async.');
  const method = methodNamed(isAsync ? name.slice('Async.'.length) : name);
  if (method === undefined || (isAsync && !method.hasAsync)) throw new XapiError('MESSAGE_METHOD_UNKNOWN', [name]);
  const [session, params] = method.needsSession ? [args[0], args.slice(1)] : ['', args];
  if (params.length < method.minParams || params.length > method.params.length) {
    throw new XapiError('MESSAGE_PARAMETER_COUNT_MISMATCH', [name, method.params.length, params.length]);
  }
  const fault = pool.faults.take(
    'call',
    (armed) => (armed.method === name || armed.method === method.name) && isAbout(pool, params, armed.about ?? []),
  );
  if (fault?.seconds !== undefined) await delay(fault.seconds * 1000);
  if (fault?.code !== undefined) throw new XapiError(fault.code, fault.params);
  if (hostRef !== pool.masterRef) {
    throw new XapiError('HOST_IS_SLAVE', [pool.db.get('host', pool.masterRef)['address'] as string]);
  }
  if (method.needsSession && pool.db.find('session', String(session)) === undefined) {
    throw new XapiError('SESSION_INVALID', [String(session)]);
  }
  const accepted = params.map((param, index) => {
    const { name: field = '', type = { kind: 'any' } as TypeSpec } = method.params[index] ?? {};
    return acceptValue(type, param, field);
  });
  const call: Call = { pool, hostRef, session: String(session) };
  const result: TypedResult = isAsync
    ? { value: runAsync(call, name, method, accepted), type: { kind: 'ref', cls: 'task' } }
    : { value: await invoke(method, call, accepted), type: method.result };
  if (fault?.lost) throw new AnswerLost();
  return result;
}

/** Whether each word is in the arguments, in a record they refer to, or in one that such a record refers to. */
function isAbout(pool: Pool, params: unknown[], words: string[]): boolean {
  if (words.length === 0) return true;
  const own = JSON.stringify(params);
  const near = recordsIn(pool, own);
  const texts = [own, ...near, ...near.flatMap((text) => recordsIn(pool, text))];
  return words.every((word) => texts.some((text) => text.includes(word)));
}

function recordsIn(pool: Pool, text: string): string[] {
  const refs = new Set(text.match(/OpaqueRef:[\w-]+/g));
  return [...refs].flatMap((ref) => {
    const found = CLASSES_OF_OBJECTS.map((cls) => pool.db.find(cls, ref)).find((row) => row !== undefined);
    return found === undefined ? [] : [JSON.stringify(found)];
  });
}

async function invoke(method: Method, call: Call, args: Value[]): Promise<Value> {
  const behaviour = method.run as unknown as (call: Call, ...args: Value[]) => Promise<Value | void>;
  return (await behaviour(call, ...args)) ?? '';
}

function runAsync(call: Call, name: string, method: Method, args: Value[]): string {
  const { pool } = call;
  const taskRef = pool.tasks.create(name, '', call.hostRef);
  const work = async (): Promise<void> => {
    try {
      const result = await invoke(method, { ...call, taskRef }, args);
      pool.tasks.succeed(taskRef, method.result.kind === 'void' ? '' : formatXmlValue(result, method.result));
    } catch (error) {
      pool.tasks.fail(taskRef, error);
    }
    pool.db.flush();
  };
  void work();
  return taskRef;
}
