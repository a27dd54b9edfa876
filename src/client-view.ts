import type { WorkflowExecutionDescription, WorkflowExecutionInfo, WorkflowFailedError } from '@temporalio/client';
import { ApplicationFailure, defaultPayloadConverter } from '@temporalio/common';
import { tsToMs } from '@temporalio/common/lib/time.js';
import type { SearchAttributeKey, SearchAttributeType } from '@temporalio/common/lib/search-attributes.js';
import type { MigrationReport, MigrationStatus, Outcome, Paused, TransferProgress } from './shared/index.js';
import { ATTRIBUTES } from './workflows/attributes.js';

/** What `check` wants to know of the server. */
export interface ServerHealth {
  serverVersion: string;
  missingAttributes: string[];
  /** Identities of the workers that polled lately, by queue. The server remembers a dead one for some minutes. */
  workers: Record<string, string[]>;
}

/** One migration as the list knows it: search attributes only, no worker needed. */
export interface MigrationRow {
  migrationId: string;
  runId: string;
  vm: string;
  vcenter: string;
  pool: string;
  stage: string;
  waitingFor: string;
  outcome: string;
  startedAt: string;
  closedAt?: string;
  /** Temporal's word: `RUNNING`, `COMPLETED`, `FAILED`, `CANCELLED`, `TERMINATED`... */
  execution: string;
}

/** A step that runs or waits for its next attempt. */
export interface PendingStep {
  activityId: string;
  type: string;
  attempt: number;
  /** In the Web UI or by Temporal's own means; a pause of the migration has no steps. */
  paused: boolean;
  pausedBy?: Paused;
  lastFailure?: string;
  /** From the last heartbeat of a transfer. */
  progress?: TransferProgress;
}

/** All that can be known of one migration at this moment. */
export interface MigrationView extends MigrationRow {
  steps: PendingStep[];
  /** The workflow's own answer; absent while no worker can give it. */
  status?: MigrationStatus;
  /** Why `status` is absent. */
  statusUnavailable?: string;
}

/** How a closed migration ended. */
export interface Ending {
  outcome: Outcome;
  /** Absent when the run was terminated or died without its own words. */
  report?: MigrationReport;
  failure?: { type: string; message: string };
}

type PendingActivity = NonNullable<WorkflowExecutionDescription['raw']['pendingActivities']>[number];
type PauseInfo = NonNullable<PendingActivity['pauseInfo']>;

export function rowOf(info: WorkflowExecutionInfo | WorkflowExecutionDescription): MigrationRow {
  const text = (key: SearchAttributeKey<typeof SearchAttributeType.KEYWORD>) =>
    info.typedSearchAttributes.get(key) ?? '';
  return {
    migrationId: info.workflowId,
    runId: info.runId,
    vm: text(ATTRIBUTES.sourceVm),
    vcenter: text(ATTRIBUTES.vcenter),
    pool: text(ATTRIBUTES.pool),
    stage: text(ATTRIBUTES.stage),
    waitingFor: text(ATTRIBUTES.waitingFor),
    outcome: text(ATTRIBUTES.outcome),
    startedAt: info.startTime.toISOString(),
    closedAt: info.closeTime?.toISOString(),
    execution: info.status.name,
  };
}

export function stepsOf(description: WorkflowExecutionDescription): PendingStep[] {
  return (description.raw.pendingActivities ?? []).map((pending) => {
    const payload = pending.heartbeatDetails?.payloads?.[0];
    const progress = progressIn(payload ? defaultPayloadConverter.fromPayload<unknown>(payload) : undefined);
    return {
      activityId: pending.activityId ?? '',
      type: pending.activityType?.name ?? '',
      attempt: pending.attempt ?? 1,
      paused: pending.paused ?? false,
      ...(pending.pauseInfo ? { pausedBy: pausedBy(pending.pauseInfo) } : {}),
      ...(pending.lastFailure?.message ? { lastFailure: pending.lastFailure.message } : {}),
      ...(progress && { progress }),
    };
  });
}

/** A rule of the server's may pause a step as well as a person. */
function pausedBy({ pauseTime, manual, rule }: PauseInfo): Paused {
  const at = new Date(tsToMs(pauseTime)).toISOString();
  const { identity, reason } = manual ?? rule ?? {};
  return { at, operator: identity || 'somebody', ...(reason && { reason }) };
}

/** What people see of a heartbeat; what a comparison has found is for the next worker. */
function progressIn(details: unknown): TransferProgress | undefined {
  if (typeof details !== 'object' || details === null || !('doneBytes' in details)) return undefined;
  const { comparison: _found, ...progress } = details as TransferProgress & { comparison?: unknown };
  return progress;
}

const OUTCOME_OF: Record<string, Outcome> = { RolledBack: 'rolled-back', Aborted: 'aborted' };

/** The typed failure a run ended with, and the report it carries. */
export function endingOf(error: WorkflowFailedError): Ending {
  const { cause } = error;
  if (!(cause instanceof ApplicationFailure)) {
    return {
      outcome: 'attention',
      failure: { type: cause?.name ?? error.name, message: cause?.message ?? error.message },
    };
  }
  const report = (cause.details ?? []).find((detail): detail is MigrationReport => {
    return typeof detail === 'object' && detail !== null && 'outcome' in detail && 'record' in detail;
  });
  const type = cause.type ?? 'Unexpected';
  return {
    outcome: report?.outcome ?? OUTCOME_OF[type] ?? 'attention',
    report,
    failure: { type, message: cause.message },
  };
}
