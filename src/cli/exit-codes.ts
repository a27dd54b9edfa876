import { failureTypeOf, type FailureType, type Outcome } from '../shared/index.js';

/** What the shell sees. Scripts branch on these, so a number never changes its meaning. */
export const EXIT = {
  done: 0,
  failed: 1,
  usage: 2,
  warnings: 3,
  temporalUnreachable: 10,
  notFound: 11,
  running: 12,
  refused: 13,
  interrupted: 130,
} as const;

const BY_TYPE: Partial<Record<FailureType, number>> = {
  ConfigInvalid: EXIT.usage,
  EndpointUnknown: EXIT.usage,
  UsageInvalid: EXIT.usage,
  // An SR or network that was named, in the configuration or on the command line.
  TargetNotFound: EXIT.usage,
  TemporalUnreachable: EXIT.temporalUnreachable,
  MigrationNotFound: EXIT.notFound,
  SourceNotFound: EXIT.notFound,
  MigrationRunning: EXIT.running,
  PreflightFailed: EXIT.refused,
  AlreadyMigrated: EXIT.refused,
  UpdateRefused: EXIT.refused,
  WrongStage: EXIT.refused,
  EvidenceMissing: EXIT.refused,
};

export function exitCodeOf(error: unknown): number {
  return BY_TYPE[failureTypeOf(error) as FailureType] ?? EXIT.failed;
}

/** A migration that ended as wanted but left something to do counts as done with warnings. */
export function exitCodeOfOutcome(outcome: Outcome, leftovers: readonly string[] = []): number {
  if (outcome !== 'migrated') return EXIT.failed;
  return leftovers.length === 0 ? EXIT.done : EXIT.warnings;
}
