import { ApplicationFailure } from '@temporalio/common';
import { redact, redactValue } from './redaction.js';

/**
 * Failure types a workflow or the CLI may branch on, and whether another attempt can help.
 *
 * Only `type`, `message`, `details` and `cause` survive an activity boundary, so workflows compare `type`.
 */
export const FAILURE_TYPES = {
  // Configuration and access
  ConfigInvalid: { retryable: false },
  EndpointUnknown: { retryable: false },
  AuthenticationFailed: { retryable: false },
  CertificateChanged: { retryable: false },
  CertificateUntrusted: { retryable: false },
  ConnectionFailed: { retryable: true },
  // Client and command line
  UsageInvalid: { retryable: false },
  TemporalUnreachable: { retryable: true },
  MigrationNotFound: { retryable: false },
  MigrationRunning: { retryable: false },
  AlreadyMigrated: { retryable: false },
  UpdateRefused: { retryable: false },
  // Procedure
  ForeignSnapshot: { retryable: false },
  NoProgress: { retryable: false },
  PreflightFailed: { retryable: false },
  EvidenceMissing: { retryable: false },
  WrongStage: { retryable: false },
  Aborted: { retryable: false },
  RolledBack: { retryable: false },
  NeedsAttention: { retryable: false },
  // Source (vSphere)
  SourceNotFound: { retryable: false },
  SourceRefused: { retryable: false },
  SourceBusy: { retryable: true },
  SourceTaskFailed: { retryable: true },
  ConsolidationBlocked: { retryable: true },
  ChangeTrackingReset: { retryable: false },
  ChangedAreasInvalid: { retryable: false },
  ToolsUnavailable: { retryable: false },
  // Data path
  VddkAuthentication: { retryable: false },
  VddkUnavailable: { retryable: false },
  ThumbprintMismatch: { retryable: false },
  HostUnreachable: { retryable: true },
  DiskNotFound: { retryable: false },
  NbdkitExited: { retryable: true },
  NbdConnectionLost: { retryable: true },
  SourceReadFailed: { retryable: true },
  SectorsUnreadable: { retryable: false },
  PlanChanged: { retryable: false },
  VerificationMismatch: { retryable: false },
  ImportFailed: { retryable: true },
  ImportDoubtful: { retryable: true },
  ExportIncomplete: { retryable: true },
  // Target pool
  TargetNotFound: { retryable: false },
  TargetRefused: { retryable: false },
  TargetBusy: { retryable: true },
  SrOutOfSpace: { retryable: false },
  WriterConflict: { retryable: true },
  // Anything else from an adapter
  Unexpected: { retryable: true },
} as const satisfies Record<string, { retryable: boolean }>;

export type FailureType = keyof typeof FAILURE_TYPES;

/** The three parts of every error a person reads. */
export interface FailureText {
  /** What happened, with the object's name. One sentence. */
  what: string;
  /** Why, as far as it is known. */
  why?: string;
  /** What to do next; printed as `Next: ...`. */
  next?: string;
}

/** Text of a failure as the CLI prints it and Temporal keeps it: up to three lines. */
function failureMessage({ what, why, next }: FailureText): string {
  const lines = [what, why, next === undefined ? undefined : `Next: ${next}`].filter((line) => line !== undefined);
  return redact(lines.join('\n'));
}

/**
 * Builds the one kind of error that crosses our borders.
 *
 * @param details JSON values only; they are kept in history.
 * @param cause The error this one explains; its message is kept by Temporal as well.
 */
export function failure(
  type: FailureType,
  text: FailureText,
  details?: Record<string, unknown>,
  cause?: unknown,
): ApplicationFailure {
  return ApplicationFailure.create({
    type,
    message: failureMessage(text),
    nonRetryable: !FAILURE_TYPES[type].retryable,
    details: details === undefined ? [] : [redactValue(details)],
    cause: cause instanceof Error ? cause : undefined,
  });
}

/** The failure's type, looked for through the causes that Temporal wraps around it. */
export function failureTypeOf(error: unknown): string | undefined {
  for (let at = error; at instanceof Error; at = at.cause) {
    if (at instanceof ApplicationFailure && at.type) return at.type;
  }
  return undefined;
}

/** The sentence a person should read, from under the wrapping that Temporal puts around an activity's failure. */
export function failureMessageOf(error: unknown): string {
  let message = String(error);
  for (let at = error; at instanceof Error; at = at.cause) {
    message = at.message;
    if (at instanceof ApplicationFailure) break;
  }
  return redact(message);
}
