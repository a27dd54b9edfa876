/** One thing that preflight saw. Errors stop a migration; warnings need an acknowledgement (S32-S34). */
export interface Finding {
  /** Short and stable, e.g. `V3`; the same check always has the same id. */
  id: string;
  severity: 'error' | 'warning' | 'info';
  /** The object, by name. */
  subject: string;
  observed: string;
  expected: string;
  remedy: string;
}
