/** The stages of the surefire procedure, in order. Shown as the search attribute `MigrationStage`. */
export const STAGES = [
  'preflight',
  'clear-snapshots',
  'baseline-snapshot',
  'tools-removal',
  'clean-snapshot',
  'base-copy',
  'test-copy',
  'verification',
  'remove-test-copy',
  'cutover-approval',
  'cutover',
  'acceptance',
  'finish',
] as const;

/** `rolling-back` is not in the sequence: the undo stack runs there. */
export type Stage = (typeof STAGES)[number] | 'rolling-back';

/** Which of the guide's four stages (S3) a stage belongs to. */
export const GUIDE_STAGE: Record<Stage, string> = {
  preflight: 'install components',
  'clear-snapshots': 'prepare VMware',
  'baseline-snapshot': 'prepare VMware',
  'tools-removal': 'prepare VMware',
  'clean-snapshot': 'prepare VMware',
  'base-copy': 'test migration',
  'test-copy': 'test migration',
  verification: 'test migration',
  'remove-test-copy': 'test migration',
  'cutover-approval': 'final cutover',
  cutover: 'final cutover',
  acceptance: 'final cutover',
  finish: 'final cutover',
  'rolling-back': 'final cutover',
};

/** What a migration waits for; shown as the search attribute `WaitingFor`. */
export type WaitingFor =
  | 'none'
  | 'warnings'
  | 'snapshot-removal'
  | 'tools-removal'
  | 'verification'
  | 'cutover-approval'
  | 'power-off'
  | 'acceptance'
  | 'decision'
  | 'resume';

/** How a migration ended, or `running`. */
export type Outcome = 'running' | 'migrated' | 'rolled-back' | 'aborted' | 'attention';

/** Task queue of workflows and of the short activities. */
export const ORCHESTRATOR_QUEUE = 'surefire';
