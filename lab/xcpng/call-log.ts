/** One API call as the admin endpoint shows it. */
export interface LoggedCall {
  at: string;
  host: string;
  method: string;
  /** Arguments without the session and secrets, long texts cut. */
  params: unknown[];
  /** Error code, where the call failed. */
  error?: string;
}

const KEPT = 20_000;

/** The last calls, for tests that ask what a client really did. */
export class CallLog {
  readonly entries: LoggedCall[] = [];
  /** References of all sessions that were ever opened, for those who look for them where they must not be. */
  readonly sessions: string[] = [];

  add(host: string, method: string, params: unknown[]): LoggedCall {
    const secret = method.startsWith('session.');
    const shown = secret ? [] : params.map((param) => shorten(param));
    const entry: LoggedCall = { at: new Date().toISOString(), host, method, params: shown };
    this.entries.push(entry);
    if (this.entries.length > KEPT) this.entries.shift();
    return entry;
  }
}

function shorten(value: unknown): unknown {
  if (typeof value === 'string') return value.length > 200 ? `${value.slice(0, 200)}...` : value;
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.slice(0, 20).map(shorten);
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, shorten(item)]));
}
