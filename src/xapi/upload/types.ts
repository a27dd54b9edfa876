import type { PinnedTls } from '../../shared/pinned-tls.js';

/** A host of the pool: `https://address[:port]`, and how its certificate is recognised. */
export interface PoolHost {
  url: string;
  tls: PinnedTls;
}

/** What XAPI says of a task that has ended. `unknown`: XAPI has forgotten it, or could not be asked. */
export type TaskOutcome =
  { status: 'success' } | { status: 'failure'; errorInfo: string[] } | { status: 'unknown'; reason: string };

/** Waits until the task has ended and says how; bounded by the caller. Never throws for a failed task. */
export type AskTask = () => Promise<TaskOutcome>;

export interface VdiTransferOptions {
  host: PoolHost;
  /** Certificate of the host a 302 points to; it has one of its own (R33). Without it a 302 is an error. */
  tlsForHost?: (address: string) => Promise<PinnedTls>;
  sessionId: string;
  taskRef: string;
  vdiRef: string;
  /** For error texts: the disk as people know it. */
  vdiName?: string;
  taskOutcome: AskTask;
  /** Ends the opening; afterwards `abort()` or the end of the iteration does. */
  signal?: AbortSignal;
  /** Longest silence while the connection is opened. Default 60 s. */
  connectTimeoutMs?: number;
  /** Longest silence while a write or the final answer is awaited; detaching may be slow. Default 15 min. */
  idleTimeoutMs?: number;
}

export interface ExportOptions extends VdiTransferOptions {
  /** `VDI.virtual_size`. Another length is an error: HTTP cannot tell a cut export from a complete one. */
  sizeBytes: number;
}
