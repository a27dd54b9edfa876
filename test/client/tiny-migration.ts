import {
  allHandlersFinished,
  condition,
  CancellationScope,
  isCancellation,
  proxyActivities,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import { failure } from '../../src/shared/index.js';
import type { MigrationInput, MigrationReport, MigrationStatus, Outcome } from '../../src/shared/index.js';
import { signalOf, statusQuery, updateOf } from '../../src/workflows/messages.js';

const { copyDisk } = proxyActivities<{ copyDisk(): Promise<void> }>({
  startToCloseTimeout: '1 minute',
  heartbeatTimeout: '20 seconds',
});

/**
 * A migration of one gate, with the real one's name, messages and ways to end: what the client and the command line
 * need for their own tests. The VM's name chooses: `copies` runs a transfer first, `fails` ends rolled back.
 */
export async function migrateVm(input: MigrationInput): Promise<MigrationReport> {
  const now = () => new Date().toISOString();
  const status: MigrationStatus = {
    ...{ schema: 1, vm: input.vm, migrationId: workflowInfo().workflowId, stage: 'tools-removal' },
    ...{ tag: 'tiny', guideStage: 'prepare VMware', since: now(), outcome: 'running', waitingFor: 'tools-removal' },
    ...{ instruction: 'Uninstall VMware Tools.', allowed: ['confirmToolsRemoved'], percent: 10, disks: [] },
    ...{ artifacts: { targetSnapshots: [] }, findings: [], notes: [], undo: [] },
    ...{ stages: [{ stage: 'tools-removal', startedAt: now() }], record: [] },
  };
  let open = false;
  let toolsGone = false;
  setHandler(statusQuery, () => status);
  setHandler(signalOf('addNote'), ({ operator, text }) => {
    status.record.push({ at: now(), stage: status.stage, text, by: operator });
  });
  setHandler(updateOf('addNote'), ({ operator, text }) => {
    status.record.push({ at: now(), stage: status.stage, text, by: operator });
    toolsGone = text === 'tools are gone';
    return { stage: status.stage, acceptedAt: now() };
  });
  setHandler(updateOf('approveCutover'), (_argument) => ({ stage: status.stage, acceptedAt: now() }), {
    validator: (_argument) => {
      throw failure('WrongStage', { what: 'approveCutover was refused: the stage is tools-removal.', next: 'wait.' });
    },
  });
  setHandler(updateOf('confirmToolsRemoved'), async ({ operator, override }) => {
    if (!toolsGone && !override) {
      throw failure('EvidenceMissing', { what: 'VMware Tools still run.', next: 'uninstall them.' });
    }
    status.record.push({ at: now(), stage: status.stage, text: 'confirmToolsRemoved was accepted.', by: operator });
    open = true;
    return { stage: status.stage, acceptedAt: now() };
  });
  const report = (outcome: Outcome): MigrationReport => {
    const { artifacts, findings, stages, record, notes, disks } = status;
    const { vm, migrationId } = status;
    return { schema: 1, vm, migrationId, outcome, disks, artifacts, findings, stages, record, notes, leftovers: [] };
  };
  try {
    if (input.vm === 'copies') await copyDisk();
    await condition(() => open);
    await condition(allHandlersFinished);
  } catch (error) {
    if (!isCancellation(error)) throw error;
    return CancellationScope.nonCancellable(async () => {
      throw failure('Aborted', { what: `${input.vm} was cancelled.` }, { ...report('aborted') });
    });
  }
  if (input.vm === 'fails')
    throw failure('RolledBack', { what: 'fails is back at the source.' }, { ...report('rolled-back') });
  return report('migrated');
}
