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
  const fault = pool.faults.take('call', (armed) => armed.method === name || armed.method === method.name);
  if (fault !== undefined) throw new XapiError(fault.code, fault.params);
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
  if (isAsync) return { value: runAsync(call, name, method, accepted), type: { kind: 'ref', cls: 'task' } };
  return { value: await invoke(method, call, accepted), type: method.result };
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
