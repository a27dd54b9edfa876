import { bindSteps, type BoundSteps } from '../shared/bound-steps.js';
import { Connection } from './connection.js';
import * as steps from './steps.js';
import type { XapiOptions } from './types.js';

/**
 * One pool, for as many callers as like to share it. Logs in at the first call and again when the session has ended.
 *
 * Any step may throw AuthenticationFailed, CertificateChanged, ConnectionFailed, TargetNotFound, TargetRefused,
 * SrOutOfSpace (another attempt cannot help) or TargetBusy (it may).
 */
export type Xapi = BoundSteps<Connection, typeof steps> & { close(): Promise<void> };

/** A client of one pool; nothing is sent before the first step. */
export function createXapi(options: XapiOptions): Xapi {
  const connection = new Connection(options);
  return { ...bindSteps(connection, steps), close: () => connection.close() };
}
