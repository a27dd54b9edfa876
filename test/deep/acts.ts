import type { LabVmSpec } from '../../lab/lab.js';
import { LAB_ENDPOINTS } from '../../lab/demo/config.js';
import type { STAGES, WaitingFor } from '../../src/shared/index.js';
import type { Bench, Choices } from '../e2e/harness.js';

/** A call by which a stage changes something outside, or without which it cannot go on. */
export interface Act {
  side: 'source' | 'target';
  method: string;
  /** What tells it from other calls of the method for the same VM; `$` stands for the VM's name, `@` for its MoRef. */
  about?: string[];
  /** Words of the record from which on it is meant, where the same call is made earlier as well. */
  after?: string;
  /** What the VM has to be like, and what its migration. */
  vm?: LabVmSpec['vsphere'];
  choices?: Choices;
  /** The gate that nobody answers, because what happens there by itself is meant. */
  holdsAt?: WaitingFor;
  /** Somebody else's snapshot is there. */
  hasForeignSnapshot?: boolean;
}

const source = (method: string, about: string[] = [], more: Partial<Act> = {}): Act => ({
  ...{ side: 'source', method, about },
  ...more,
});
const target = (method: string, about: string[] = [], more: Partial<Act> = {}): Act => ({
  ...{ side: 'target', method, about: ['$', ...about] },
  ...more,
});

/** A task names its migration, not its VM. */
const READ_BACK: Act = { side: 'target', method: 'task.create', about: ['read back', '/@#'] };
const FINAL = 'vm powered off for cutover';
const HAS_TOOLS = { vm: { tools: 'running' } } as const;
const RUNNING_TARGET = ['"name_label":"$"', '"power_state":"Running"'];

/**
 * Every act of every stage, once. A stage that is new has to say here what it does: the compiler asks for its row.
 * Gates whose stage does nothing by itself have none.
 */
export const ACTS: Record<(typeof STAGES)[number], Act[]> = {
  preflight: [source('RetrievePropertiesEx')],
  'clear-snapshots': [
    source('RemoveSnapshot_Task', ['nightly'], { hasForeignSnapshot: true }),
    source('ReconfigVM_Task', ['true']),
  ],
  'baseline-snapshot': [source('CreateSnapshot_Task', ['vm starting point'])],
  'tools-removal': [source('RevertToSnapshot_Task', [], HAS_TOOLS), source('PowerOnVM_Task', [], HAS_TOOLS)],
  'clean-snapshot': [
    source('CreateSnapshot_Task', ['vm without tools']),
    source('RemoveSnapshot_Task', ['vm starting point'], { choices: { policy: { transport: 'https' } } }),
  ],
  'base-copy': [
    target('VM.create'),
    target('VIF.create'),
    target('VDI.create'),
    target('VBD.create'),
    // The writer's mark: without it no byte is sent.
    target('VDI.add_to_other_config', ['surefire:writer']),
    target('VM.snapshot', ['after partial import']),
    READ_BACK,
    source('RemoveSnapshot_Task', ['vm starting point'], { choices: { policy: { transport: 'vddk' } } }),
  ],
  'test-copy': [
    target('network.create'),
    target('VM.clone', ['[Test] $']),
    target('VIF.create', ['[Test] $']),
    target('VM.start', ['[Test] $']),
  ],
  // What happens there by itself: the clean snapshot's time is over (R5).
  verification: [
    source('RemoveSnapshot_Task', ['vm without tools'], {
      choices: { policy: { snapshotHours: 0 } },
      holdsAt: 'verification',
    }),
  ],
  'remove-test-copy': [target('VM.destroy', ['[Test] $'])],
  'cutover-approval': [source('RemoveSnapshot_Task', ['vm without tools'])],
  cutover: [
    source('CreateSnapshot_Task', [FINAL]),
    source('QueryChangedDiskAreas', [FINAL]),
    target('VDI.add_to_other_config', ['surefire:writer'], { after: 'approveCutover was accepted' }),
    target('VM.snapshot', ['complete import']),
    target('VM.set_name_label', ['[Importing...] $'], { after: 'approveCutover was accepted' }),
    target('VM.start', ['"name_label":"$"']),
    // It runs already, and cannot be looked at.
    target('VM.get_record', RUNNING_TARGET),
  ],
  acceptance: [source('QueryChangedDiskAreas', [FINAL], { after: 'The final delta is on the target' })],
  finish: [
    source('RemoveSnapshot_Task', [FINAL]),
    source('ReconfigVM_Task', ['false']),
    source('ReconfigVM_Task', ['surefire.migration']),
    target('VM.add_to_other_config', ['surefire:migrated-from']),
  ],
};

export type Effect = { kind: 'fails'; times?: number } | { kind: 'slow'; seconds: number } | { kind: 'lost' };

/** From now on the act fails as it would for a missing right, takes its time, or is done without an answer. */
export async function arm(bench: Bench, vm: string, act: Act, effect: Effect): Promise<void> {
  const { method } = act;
  const times = effect.kind === 'fails' ? (effect.times ?? 1) : 1;
  const about = await aboutOf(bench, vm, act);
  if (act.side === 'source') {
    const object = { type: 'VirtualMachine', value: about[0] };
    await bench.vsphere.addRule({
      ...{ method, about, count: times },
      ...(effect.kind === 'fails' && { fault: 'NoPermission', detail: { object, privilegeId: 'Lab.Right' } }),
      ...(effect.kind === 'slow' && { seconds: effect.seconds }),
      ...(effect.kind === 'lost' && { lost: true }),
    });
    return;
  }
  await bench.pool.fault({
    ...{ kind: 'call', method, about, times },
    ...(effect.kind === 'fails' && { code: 'RBAC_PERMISSION_DENIED', params: [method] }),
    ...(effect.kind === 'slow' && { seconds: effect.seconds }),
    ...(effect.kind === 'lost' && { lost: true }),
  });
}

/** Whether what was armed has happened. */
export async function hasHappened(bench: Bench, vm: string, act: Act): Promise<boolean> {
  const about = JSON.stringify(await aboutOf(bench, vm, act));
  const waiting = act.side === 'source' ? await bench.vsphere.rules() : await bench.pool.faults();
  return !waiting.some((one) => 'method' in one && one.method === act.method && JSON.stringify(one.about) === about);
}

async function aboutOf(bench: Bench, vm: string, { side, about = [] }: Act): Promise<string[]> {
  const { moRef } = await bench.vsphere.vm(vm);
  const words = about.map((word) => word.replace('$', vm).replace('@', moRef));
  return side === 'source' ? [moRef, ...words] : words;
}

/** What a migration may not leave changed on the source, its mark included. */
export async function sourceOf(bench: Bench, vm: string) {
  const { moRef } = await bench.vsphere.vm(vm);
  const { mark } = await bench.deps.vsphere(LAB_ENDPOINTS.vcenter).inspectVm({ vmMoRef: moRef });
  return { ...(await bench.sourceState(vm)), mark };
}

/** Spans of time in which both sides ran at once: there must be none (R11). */
export async function bothRan(bench: Bench, vm: string, targetVmUuid: string | undefined): Promise<string[]> {
  const { moRef } = await bench.vsphere.vm(vm);
  const changes = [
    ...(await bench.vsphere.powerChanges())
      .filter((change) => change.vm === moRef)
      .map(({ time, state }) => ({ side: 'source', at: Date.parse(time), isOn: state === 'poweredOn' })),
    ...(await bench.pool.power())
      .filter((change) => change.vm === targetVmUuid)
      .map(({ at, state }) => ({ side: 'target', at: Date.parse(at), isOn: state === 'Running' })),
  ].sort((a, b) => a.at - b.at);
  const isOn: Record<string, boolean> = {};
  return changes.flatMap(({ side, at, isOn: on }) => {
    isOn[side] = on;
    return isOn['source'] && isOn['target'] ? [`since ${new Date(at).toISOString()}, as the ${side} went on`] : [];
  });
}
