import type { Finding, FindingCode } from '../shared/findings.js';

/** One finding before it has its object. */
export type Row = [
  code: FindingCode,
  severity: Finding['severity'],
  observed: string,
  expected: string,
  remedy: string,
];

/** Gives a row its object. */
export function findingAbout(object: string, [code, severity, observed, expected, remedy]: Row): Finding {
  return { code, severity, object, observed, expected, remedy };
}
