import {
  isGrpcServiceError,
  NamespaceNotFoundError,
  ServiceError,
  WorkflowNotFoundError,
  WorkflowUpdateFailedError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
} from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { failure } from './shared/index.js';

/** gRPC status codes; the enumeration's own package is not ours to import. */
const DEADLINE_EXCEEDED = 4;
const UNAVAILABLE = 14;

/**
 * Temporal's errors as failures of ours, in three parts. Anything that already is one passes through.
 *
 * @param what What was being done, such as `approveCutover for migration/vc/vm-1`.
 */
export function clientFailure(error: unknown, what: string, address: string): Error {
  if (error instanceof ApplicationFailure) return error;
  if (error instanceof WorkflowUpdateFailedError) return refusal(error, what);
  if (error instanceof WorkflowUpdateRPCTimeoutOrCancelledError) {
    return failure('TemporalUnreachable', {
      what: `${what} got no answer in time.`,
      why: 'The workers are busy or gone; the message may still be accepted once they are back.',
      next: 'look at `surefire status` before sending it again.',
    });
  }
  if (error instanceof WorkflowNotFoundError) {
    return failure('MigrationNotFound', {
      what: `${what}: there is no such migration, or it has ended.`,
      next: 'see `surefire status` for those that exist.',
    });
  }
  const namespace = missingNamespaceOf(error);
  if (namespace !== undefined) {
    return failure('TemporalUnreachable', {
      what: `Temporal at ${address} has no namespace "${namespace}".`,
      next: 'make it with `surefire prepare`, or correct temporal.namespace in the configuration.',
    });
  }
  const grpc = error instanceof ServiceError ? error.cause : error;
  const code = isGrpcServiceError(grpc) ? grpc.code : undefined;
  const reason = isGrpcServiceError(grpc) ? grpc.details : error instanceof Error ? error.message : String(error);
  if (
    code === UNAVAILABLE ||
    code === DEADLINE_EXCEEDED ||
    /connect before the deadline|transport::Error/.test(reason)
  ) {
    return failure(
      'TemporalUnreachable',
      {
        what: `Temporal at ${address} cannot be reached.`,
        why: reason,
        next: 'start it with `surefire up`, or correct temporal.address in the configuration.',
      },
      undefined,
      error,
    );
  }
  return failure('Unexpected', { what: `${what} failed.`, why: reason }, undefined, error);
}

/** The SDK names it in an error of its own in some calls, and in others only in the server's sentence. */
function missingNamespaceOf(error: unknown): string | undefined {
  if (error instanceof NamespaceNotFoundError) return error.namespace;
  return error instanceof Error ? /Namespace (\S+) is not found/.exec(error.message)?.[1] : undefined;
}

/** The workflow's own refusal, whose sentence already says why and what to do. */
function refusal(error: WorkflowUpdateFailedError, what: string): Error {
  let cause: unknown = error.cause;
  while (cause instanceof Error && !(cause instanceof ApplicationFailure) && cause.cause instanceof Error)
    cause = cause.cause;
  if (cause instanceof ApplicationFailure && cause.type) return cause;
  const why = cause instanceof Error ? cause.message : error.message;
  return failure('UpdateRefused', { what: `${what} was refused.`, why }, undefined, error);
}
