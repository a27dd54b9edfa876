/** What a preflight check found: one fact, what was wanted, and what a person can do about it. */
export interface Finding {
  /** Stable name of the rule, such as `V1` or `D3`; docs/operations.md lists them all. */
  code: string;
  /** `error` stops the migration; `warning` needs an acknowledgement; `info` is only told. */
  severity: 'error' | 'warning' | 'info';
  /** Name of the VM, disk, network card, host or storage the finding is about. */
  object: string;
  /** What was seen, as one sentence with the value in it. */
  observed: string;
  /** What would have passed. */
  expected: string;
  /** What to do next, as one sentence. */
  remedy: string;
}

/** True when a list of findings forbids going on. */
export function hasErrors(findings: readonly Finding[]): boolean {
  return findings.some((finding) => finding.severity === 'error');
}
