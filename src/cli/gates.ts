import type { WaitingFor } from '../shared/index.js';
import type { MessageName } from '../workflows/messages.js';

/** The message that opens each gate, and what to type for it after `surefire`. `VM` stands for the machine. */
export const GATE_ANSWERS: Record<WaitingFor, { message?: MessageName; command: string } | undefined> = {
  none: undefined,
  warnings: { message: 'acknowledgeWarnings', command: 'approve VM --reason "..."' },
  'snapshot-removal': { message: 'approveSnapshotRemoval', command: 'approve VM' },
  'tools-removal': { message: 'confirmToolsRemoved', command: 'approve VM' },
  verification: { message: 'acceptTestCopy', command: 'approve VM' },
  'cutover-approval': { message: 'approveCutover', command: 'approve VM' },
  // Nobody's word counts here: the power-off itself is observed.
  'power-off': undefined,
  acceptance: { message: 'acceptMigration', command: 'approve VM' },
  // Not a gate: `approve` must not end a pause by the way.
  resume: { command: 'resume VM' },
  decision: { message: 'decideAfterFailure', command: 'approve VM --decision retry|full|back|abort' },
};

/** What a person types to answer, or nothing when nobody is waited for. */
export function answerCommand(waitingFor: string, vm: string): string | undefined {
  const answer = GATE_ANSWERS[waitingFor as WaitingFor];
  return answer === undefined ? undefined : `surefire ${answer.command.replace('VM', shellWord(vm))}`;
}

/** A name as a shell takes it for one word. */
export function shellWord(text: string): string {
  return /^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
