import { setCurrentDetails, upsertSearchAttributes, workflowInfo, log } from '@temporalio/workflow';
import { GUIDE_STAGE, STAGES } from '../shared/index.js';
import type {
  BootEvidence,
  MigrationInput,
  MigrationReport,
  MigrationStatus,
  Outcome,
  Stage,
  TargetSnapshot,
  Word,
} from '../shared/index.js';
import type { PreflightPlan, SourceRef, SourceSnapshot, TargetRef } from '../activities/types.js';
import type { Pass } from './passes.js';
import { ATTRIBUTES } from './attributes.js';
import { renderDetails } from './details.js';
import { Pause } from './pause.js';
import { UndoStack } from './undo.js';

/** Workflow time as ISO 8601; deterministic. */
export const now = (): string => new Date().toISOString();

/**
 * Evidence looked at again: what was seen to boot has booted only as long as it still runs since the same start. Addresses
 * and versions come late, and are taken when they are there.
 */
export function later(before: BootEvidence | undefined, seen: BootEvidence): BootEvidence {
  const same = before?.booted === true && seen.booted && before.startTime === seen.startTime;
  return { ...before, ...seen, stableSeconds: before?.stableSeconds ?? 0, booted: same };
}

/** Share of the whole that is done when a stage begins, in percent: the two copies take the time. */
const PERCENT_AT: Record<Stage, number> = Object.fromEntries(
  [0, 2, 4, 6, 10, 12, 70, 74, 76, 78, 80, 94, 98].map((percent, index) => [STAGES[index], percent]),
) as Record<Stage, number>;

/** All that a migration remembers. Changed by the stages and the message handlers, read by the `status` query. */
export class Migration {
  /**
   * The tag on everything this migration makes. It names the run as well: a second try of the same VM must not take
   * what an earlier one left for its own, least of all a target that was kept because it holds data (R24).
   */
  readonly id: string;
  readonly undo: UndoStack;
  readonly pause: Pause;
  readonly #status: MigrationStatus;
  /** What the search attributes say. */
  #shown = 'preflight/none/running';
  readonly input: MigrationInput;
  /** What preflight fixed; set when stage 0 ends. */
  plan!: PreflightPlan;
  /** Used on the test network's clean-up: how full the SR was before the clone. */
  srUsedBytesBefore?: number;
  /** The clean snapshot as stage 4 took it. */
  cleanSnapshot?: SourceSnapshot;
  /** When the baseline goes although nothing was copied yet; its clock starts when Tools are gone (R5). */
  baselineDeadlineMs?: number;
  /** The clean snapshot's clock starts when its pass is complete (R5). */
  cleanSnapshotDeadlineMs?: number;
  /** The target snapshot that was read back last: clones and deltas stand on it. */
  verifiedSnapshot?: TargetSnapshot;
  passCount = 0;
  /** The pass that stage 5 is in the middle of; a retried stage goes on with it. */
  pass: Pass | undefined;
  /** What cutover made; read back in acceptance. */
  finalSnapshot?: SourceSnapshot;
  finalPass?: Pass;
  finalTargetSnapshot?: TargetSnapshot;
  finalTries = 0;
  /** From the first start of the target on, its data is never destroyed without a word of its own (R24). */
  targetHasRun = false;

  constructor(input: MigrationInput) {
    this.input = input;
    const { workflowId, firstExecutionRunId } = workflowInfo();
    // A run id begins with the time (UUID version 7): two runs of the same minute differ at its end only.
    this.id = `${workflowId}#${firstExecutionRunId.slice(-8)}`;
    this.undo = new UndoStack(this);
    this.pause = new Pause(this);
    this.#status = {
      schema: 1,
      vm: input.vm,
      migrationId: workflowId,
      tag: this.id,
      stage: 'preflight',
      guideStage: GUIDE_STAGE.preflight,
      since: now(),
      outcome: 'running',
      waitingFor: 'none',
      allowed: [],
      percent: 0,
      disks: [],
      artifacts: { targetSnapshots: [] },
      findings: [],
      stages: [],
      record: [],
      notes: [],
      undo: [],
    };
  }

  get status(): Readonly<MigrationStatus> {
    return this.pause.shownIn({ ...this.#status, undo: this.undo.list() });
  }
  get stage(): Stage {
    return this.#status.stage;
  }
  get disks() {
    return this.#status.disks;
  }
  get artifacts() {
    return this.#status.artifacts;
  }
  get notes() {
    return this.#status.notes;
  }
  get findings() {
    return this.#status.findings;
  }
  get downtime() {
    return this.#status.downtime;
  }

  get source(): SourceRef {
    return { vcenter: this.input.source.vcenter, vmMoRef: this.input.source.vmMoRef, migrationId: this.id };
  }
  get target(): TargetRef {
    return { pool: this.input.target.pool, migrationId: this.id };
  }
  get transport() {
    return this.plan.transport;
  }
  get targetVmUuid(): string {
    const uuid = this.artifacts.targetVmUuid;
    if (uuid === undefined) throw new Error('the target VM does not exist yet');
    return uuid;
  }

  /** Whether anything outside was changed: preflight changes nothing. */
  get madeSomething(): boolean {
    return this.#status.stages.some(({ stage }) => stage === 'clear-snapshots');
  }

  /** Begins a stage: record, search attributes and details follow. */
  enter(stage: Stage): void {
    const at = now();
    const last = this.#status.stages.at(-1);
    if (last && last.endedAt === undefined) last.endedAt = at;
    this.#status.stages.push({ stage, startedAt: at });
    this.set({
      stage,
      guideStage: GUIDE_STAGE[stage],
      since: at,
      percent: Math.max(this.#status.percent, PERCENT_AT[stage] ?? 0),
    });
    log.info('stage', { stage, vm: this.input.vm });
  }

  /** Changes what is shown. One place, so that attributes and details never lag behind the status. */
  set(change: Partial<MigrationStatus>): void {
    Object.assign(this.#status, change);
    const { stage, outcome, since } = this.#status;
    // A gate may be open as well; but whatever is answered there, it is the resume that things go on with.
    const waitingFor = this.pause.word ? 'resume' : this.#status.waitingFor;
    const shown = `${stage}/${waitingFor}/${outcome}`;
    if (shown !== this.#shown || this.#status.stages.length <= 1) {
      this.#shown = shown;
      upsertSearchAttributes([
        { key: ATTRIBUTES.stage, value: stage },
        { key: ATTRIBUTES.waitingFor, value: waitingFor },
        { key: ATTRIBUTES.outcome, value: outcome },
        { key: ATTRIBUTES.stageSince, value: new Date(since) },
      ]);
    }
    this.refresh();
  }

  /** Adds a line to the record; `word` says by whom. */
  note(text: string, word?: Word, evidence?: object): void {
    this.#status.record.push({
      at: now(),
      stage: this.#status.stage,
      text,
      ...(word && { by: word.operator, ...(word.reason !== undefined && { reason: word.reason }) }),
      ...(evidence && { evidence: { ...evidence } }),
    });
    this.refresh();
  }

  refresh(): void {
    setCurrentDetails(renderDetails(this.status));
  }

  /** What an ended migration leaves as its result or in its failure's details. */
  report(outcome: Outcome, leftovers: string[], reason?: string): MigrationReport {
    const s = this.#status;
    const last = s.stages.at(-1);
    if (last) last.endedAt ??= now();
    const sent = (kind: (pass: string) => boolean) =>
      s.disks.flatMap((disk) => disk.passes.filter((p) => kind(p.pass))).reduce((sum, p) => sum + p.bytesSent, 0);
    const total = sent(() => true);
    const { schema, vm, migrationId, firmware, transport, disks, artifacts } = s;
    const { findings, stages, record, notes, downtime, testEvidence, targetEvidence } = s;
    return {
      ...{ schema, vm, migrationId, outcome, ...(reason !== undefined && { reason }), firmware, transport },
      ...{ targetVmUuid: artifacts.targetVmUuid, disks, artifacts },
      ...{ findings, stages, record, notes, downtime, testEvidence, targetEvidence },
      ...(total > 0 && { warmShare: sent((pass) => !pass.startsWith('final')) / total }),
      leftovers,
    };
  }
}
