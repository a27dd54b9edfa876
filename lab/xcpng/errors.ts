/** An API failure as XAPI reports it: a code and its parameters, all text. */
export class XapiError extends Error {
  readonly code: string;
  readonly params: string[];

  constructor(code: string, params: readonly (string | number)[] = []) {
    super(`${code}(${params.join(', ')})`);
    this.code = code;
    this.params = params.map(String);
  }
}

/** Any thrown value as an API failure; what is not one already becomes INTERNAL_ERROR, as in XAPI. */
export function asXapiError(error: unknown): XapiError {
  if (error instanceof XapiError) return error;
  return new XapiError('INTERNAL_ERROR', [error instanceof Error ? error.message : String(error)]);
}
