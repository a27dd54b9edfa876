import { failure, type FailureType } from '../shared/errors.js';

interface NbdkitReason {
  type: FailureType;
  /** The line that decided it, or the last one. */
  line: string;
  next: string;
}

/** First match wins. Texts: VDDK 6.5-9 (VixDiskLib_GetErrorText), nbdkit 1.32-1.42, curl. */
const RULES: readonly { pattern: RegExp; type: FailureType; next: string }[] = [
  {
    pattern:
      /insufficient permissions|incorrect user ?name or password|invalid ?login|cannot complete login|not authenticated|authentication fail/i,
    type: 'VddkAuthentication',
    next: "check the vCenter account's password and its privileges; there is no retry, because accounts get locked.",
  },
  {
    pattern: /returned error: 401|HTTP 401/,
    type: 'AuthenticationFailed',
    next: 'check the vCenter account, then retry.',
  },
  {
    pattern:
      /thumbprint|certificate (verify|has)|self.signed certificate|unable to verify|CERT_|certificate was refused/i,
    type: 'ThumbprintMismatch',
    next: 'compare the configured fingerprint with the one that `surefire check` prints.',
  },
  {
    pattern:
      /NFC (error 5|.*memory)|failed to allocate the requested|(failed to|cannot|could not) lock the file|file is (locked|being used)|returned error: 5(?!02)\d\d|HTTP 5\d\d|HTTP 429/i,
    type: 'SourceBusy',
    next: 'it is tried again; if it stays, lower the number of disks read at once from this host.',
  },
  {
    pattern:
      /file (was )?not found|snapshot was not found|cannot find|does not exist|returned error: 404|HTTP 404|no such VM/i,
    type: 'DiskNotFound',
    next: 'run `surefire check`: the disk or the snapshot may have been moved, renamed or removed.',
  },
  {
    pattern: /returned error: 403|HTTP 403/,
    type: 'SourceRefused',
    next: 'give the account the Datastore.Browse privilege.',
  },
  {
    pattern: /do(es)? not have access rights/i,
    type: 'SourceRefused',
    next: 'give the account the privileges of VM provisioning (docs/privileges.md), and see that nobody else holds the disk.',
  },
  {
    pattern:
      /could not be contacted|refused connection|connection (was )?(lost|refused|reset|timed out)|couldn't connect|could not resolve|failed to connect|timed? ?out|shutting down|unreachable|resource temporarily unavailable|socket error|server was not found|vmware-authd|ECONN\w+|EAI_\w+|ENOTFOUND|ETIMEDOUT|socket hang up/i,
    type: 'HostUnreachable',
    next: 'check that this worker reaches vCenter on port 443 and every ESXi host on ports 443 and 902.',
  },
  {
    pattern:
      /QueryAllocatedBlocks: one of the parameters was invalid|cannot open shared object|could not (open|load)|libvixDiskLib|nbdkit-vddk-plugin|unknown (parameter|option)|is not a (valid|known) plugin|no such plugin/i,
    type: 'VddkUnavailable',
    next: 'check `vddkLibdir` and that nbdkit has its vddk plugin, or use `--transport https`.',
  },
];

/** Turns what nbdkit printed into a failure type; undefined when no line says anything known. */
function classifyNbdkitFailure(stderr: string): NbdkitReason | undefined {
  const lines = stderr.split('\n').filter((line) => line.trim() !== '');
  for (const rule of RULES) {
    const line = lines.findLast((candidate) => rule.pattern.test(candidate));
    if (line !== undefined) return { type: rule.type, line, next: rule.next };
  }
  return undefined;
}

/** The line that explains best what nbdkit could not do. */
export function reasonIn(stderr: string): string | undefined {
  const line =
    classifyNbdkitFailure(stderr)?.line ?? stderr.split('\n').findLast((candidate) => candidate.trim() !== '');
  return line?.replace(/^nbdkit: /, '');
}

/** The failure for a person: what was attempted, nbdkit's own reason, what to do. */
export function nbdkitFailure(what: string, stderr: string, fallback: FailureType, cause?: unknown): Error {
  const reason = classifyNbdkitFailure(stderr);
  const said = reasonIn(stderr) ?? (cause instanceof Error ? cause.message : undefined);
  return failure(
    reason?.type ?? fallback,
    {
      what,
      why: said === undefined ? 'nbdkit printed no reason.' : `nbdkit said: "${said}".`,
      next: reason?.next ?? "it is tried again; if it stays, read the worker's log.",
    },
    { stderr: stderr.slice(-2_000) },
    cause,
  );
}

export function noSuchProgram(command: string): Error {
  return failure('ConfigInvalid', {
    what: `There is no program "${command}" to read disks with.`,
    next: 'install nbdkit, or set its path in `surefire.yaml`.',
  });
}
