import { failure } from '../shared/errors.js';
import type { FailureType } from '../shared/errors.js';

/** What XAPI's codes mean for another attempt, and what to do; everything else may be tried again (xapi errors, by experience). */
const MEANING: Record<string, [type: FailureType, next: string]> = {
  SESSION_AUTHENTICATION_FAILED: [
    'AuthenticationFailed',
    'correct the password file; it is not tried again until the worker restarts.',
  ],
  RBAC_PERMISSION_DENIED: ['TargetRefused', 'give the account the role vm-power-admin (docs/privileges.md).'],
  UUID_INVALID: ['TargetNotFound', 'somebody removed it; look at the pool.'],
  SR_BACKEND_FAILURE_44: ['SrOutOfSpace', 'free space on the SR, or migrate to another one.'],
  SR_FULL: ['SrOutOfSpace', 'free space on the SR, or migrate to another one.'],
  SR_BACKEND_FAILURE_79: ['TargetRefused', 'the SR does not hold disks of this size; choose another with --sr.'],
  VDI_TOO_LARGE: ['TargetRefused', 'the SR does not hold disks of this size; choose another with --sr.'],
  INVALID_VALUE: ['TargetRefused', 'look at the value named above in Xen Orchestra.'],
  LICENSE_RESTRICTION: ['TargetRefused', 'look at the licence of the pool.'],
  FEATURE_RESTRICTED: ['TargetRefused', 'look at the licence of the pool.'],
  OPERATION_BLOCKED: ['TargetRefused', 'somebody blocked this on the object; look at it in Xen Orchestra.'],
  MESSAGE_METHOD_UNKNOWN: ['TargetRefused', 'update the pool: it is too old for this.'],
  MESSAGE_PARAMETER_COUNT_MISMATCH: ['TargetRefused', 'update the pool: it is too old for this.'],
  FIELD_TYPE_ERROR: ['TargetRefused', 'look at the value named above.'],
  MAC_INVALID: ['TargetRefused', 'correct the MAC address of the card at the source.'],
  INVALID_DEVICE: ['TargetRefused', 'look at the devices of the VM in Xen Orchestra.'],
  VCPU_MAX_NOT_CORES_PER_SOCKET_MULTIPLE: ['TargetRefused', 'correct the cores per socket of the VM.'],
  NOT_IMPLEMENTED: ['TargetRefused', 'update the pool: it is too old for this.'],
};

/** Objects that nobody but a person removes; others (tasks, VBDs) come and go, and another look finds them right. */
const LASTING = ['VM', 'VDI', 'SR', 'network', 'host'];

function meaningOf(code: string, params: string[]): [FailureType, string] {
  if (code === 'HANDLE_INVALID' && LASTING.includes(params[0] ?? '')) {
    return ['TargetNotFound', 'somebody removed it; look at the pool.'];
  }
  return MEANING[code] ?? ['TargetBusy', 'it is tried again; if it stays so, look at the object in Xen Orchestra.'];
}

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
    const [type, next] = meaningOf(code, params);
    // Of a login XAPI repeats the user's name only, but nothing of a login is worth quoting.
    const shown = code === 'SESSION_AUTHENTICATION_FAILED' ? '' : ` (${params.join(', ')})`;
    return failure(
      type,
      { what: `${method} on ${url} failed.`, why: `The pool says ${code}${shown}.`, next },
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
