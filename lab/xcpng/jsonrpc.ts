import type { Value } from './datamodel.js';
import { asXapiError } from './errors.js';
import { isStruct } from './values.js';

/** A request as JSON-RPC 1.0 (no `jsonrpc` key) or 2.0. */
export interface JsonCall {
  version: 1 | 2;
  id: string | number;
  method: string;
  params: unknown[];
}

/** Undefined where the text is no JSON-RPC call: XAPI answers that with HTTP 500. */
export function parseJsonCall(text: string): JsonCall | undefined {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isStruct(body)) return undefined;
  const { jsonrpc, id, method, params = [] } = body;
  const hasId = typeof id === 'string' || Number.isInteger(id);
  if (!hasId || typeof method !== 'string' || !Array.isArray(params)) return undefined;
  return { version: jsonrpc === undefined ? 1 : 2, id: id as string | number, method, params };
}

export function formatJsonSuccess({ version, id }: JsonCall, result: Value): string {
  return JSON.stringify(version === 2 ? { jsonrpc: '2.0', result, id } : { result, error: null, id });
}

export function formatJsonFailure({ version, id }: JsonCall, error: unknown): string {
  const { code, params } = asXapiError(error);
  if (version === 1) return JSON.stringify({ result: null, error: [code, ...params], id });
  return JSON.stringify({ jsonrpc: '2.0', error: { code: 1, message: code, data: params }, id });
}
