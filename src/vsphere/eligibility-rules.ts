import type { Finding, FindingCode } from '../shared/findings.js';

/** One rule, looked at: what was seen, or nothing where it is kept. */
export type Rule = [
  code: FindingCode,
  severity: Finding['severity'],
  observed: string | false | undefined,
  expected: string,
  remedy: string,
];

/** The findings of those rules that are broken. */
export function broken(object: string, rules: Rule[]): Finding[] {
  return rules.flatMap(([code, severity, observed, expected, remedy]) =>
    observed ? [{ code, severity, object, observed, expected, remedy }] : [],
  );
}
