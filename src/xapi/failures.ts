import { failure } from '../shared/errors.js';
import type { FailureType } from '../shared/errors.js';

/** What XAPI's codes mean for another attempt; everything else may be tried again (xapi errors, by experience). */
const TYPES: Record<string, FailureType> = {
  SESSION_AUTHENTICATION_FAILED: 'AuthenticationFailed',
  RBAC_PERMISSION_DENIED: 'TargetRefused',
  UUID_INVALID: 'TargetNotFound',
  SR_BACKEND_FAILURE_44: 'SrOutOfSpace',
  SR_FULL: 'SrOutOfSpace',
  SR_BACKEND_FAILURE_79: 'TargetRefused',
  VDI_TOO_LARGE: 'TargetRefused',
  INVALID_VALUE: 'TargetRefused',
  LICENSE_RESTRICTION: 'TargetRefused',
  FEATURE_RESTRICTED: 'TargetRefused',
  OPERATION_BLOCKED: 'TargetRefused',
  MESSAGE_METHOD_UNKNOWN: 'TargetRefused',
  MESSAGE_PARAMETER_COUNT_MISMATCH: 'TargetRefused',
  FIELD_TYPE_ERROR: 'TargetRefused',
  MAC_INVALID: 'TargetRefused',
  INVALID_DEVICE: 'TargetRefused',
  VCPU_MAX_NOT_CORES_PER_SOCKET_MULTIPLE: 'TargetRefused',
  NOT_IMPLEMENTED: 'TargetRefused',
};

/** Objects that nobody but a person removes; others (tasks, VBDs) come and go, and another look finds them right. */
const LASTING = ['VM', 'VDI', 'SR', 'network', 'host'];

function typeOf(code: string, params: string[]): FailureType {
  if (code === 'HANDLE_INVALID' && LASTING.includes(params[0] ?? '')) return 'TargetNotFound';
  return TYPES[code] ?? 'TargetBusy';
}

const NEXT: Partial<Record<FailureType, string>> = {
  AuthenticationFailed: 'correct the password file; it is not tried again until the worker restarts.',
  SrOutOfSpace: 'free space on the SR, or migrate to another one.',
  TargetNotFound: 'somebody removed it; look at the pool.',
};

/** A XAPI error's code, from under our failure or straight from `xen-api`. */
export function xapiCode(error: unknown): string | undefined {
  const { code, details } = (error ?? {}) as { code?: unknown; details?: { code?: unknown }[] };
  const found = details?.[0]?.code ?? code;
  return typeof found === 'string' ? found : undefined;
}

/** Translates what a call threw into one of our failures; `details[0]` keeps XAPI's code and parameters. */
export function xapiFailure(error: unknown, method: string, url: string): Error {
  const { code, params } = (error ?? {}) as { code?: string; params?: string[] };
  if (code !== undefined && Array.isArray(params)) {
    const type = typeOf(code, params);
    // Of a login XAPI repeats the user's name only, but nothing of a login is worth quoting.
    const shown = code === 'SESSION_AUTHENTICATION_FAILED' ? '' : ` (${params.join(', ')})`;
    return failure(
      type,
      { what: `${method} on ${url} failed: ${code}${shown}.`, ...(NEXT[type] && { next: NEXT[type] }) },
      { code, params: code === 'SESSION_AUTHENTICATION_FAILED' ? [] : params },
    );
  }
  const why = error instanceof Error ? error.message : String(error);
  // Node's codes for a certificate that leads to none that is trusted.
  if (/CERT|SIGNATURE|SELF_SIGNED|ALTNAME/.test(code ?? '')) {
    return failure(
      'CertificateUntrusted',
      {
        what: `${url} or the host it names as master presents a certificate that is not trusted; no password was sent there.`,
        why,
        next: 'configure the address of the master and the fingerprint that `surefire check` prints, or its `caFile`.',
      },
      undefined,
      error,
    );
  }
  return failure(
    'ConnectionFailed',
    { what: `${url} did not answer ${method}.`, why, next: 'check that the pool is up and reachable from here.' },
    undefined,
    error,
  );
}
