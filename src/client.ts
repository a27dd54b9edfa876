import { randomUUID } from 'node:crypto';
import {
  Client,
  type Connection,
  WorkflowExecutionAlreadyStartedError,
  WorkflowFailedError,
  WorkflowIdConflictPolicy,
  WorkflowIdReusePolicy,
} from '@temporalio/client';
import { clientFailure } from './client-errors.js';
import { endingOf, rowOf, stepsOf } from './client-view.js';
import type { Ending, MigrationRow, MigrationView, ServerHealth } from './client-view.js';
import { workersOf } from './client-workers.js';
import type { Config } from './config.js';
import { missingAttributes } from './namespace.js';
import { failure, ORCHESTRATOR_QUEUE } from './shared/index.js';
import type { MigrationInput, MigrationReport, Word } from './shared/index.js';
import { connectTemporal } from './temporal-connection.js';
import { ATTRIBUTES } from './workflows/attributes.js';
import { signalOf, statusQuery, updateOf } from './workflows/messages.js';
import type { Accepted, MessageArguments, MessageName } from './workflows/messages.js';

export type { Ending, MigrationRow, MigrationView, PendingStep } from './client-view.js';

const WORKFLOW_TYPE = 'migrateVm';

/** A query answers from memory; a worker that must replay a long history first needs seconds. */
const QUERY_MS = 8000;
/** An update waits for evidence, which looks at both sides. */
const UPDATE_MS = 60_000;
const CALL_MS = 15_000;

/** The lock on a VM: Temporal refuses a second run of the same id. */
export function migrationIdOf(vcenter: string, vmMoRef: string): string {
  return `migration/${vcenter}/${vmMoRef}`;
}

/** @throws TemporalUnreachable */
export async function connectClient(config: Pick<Config, 'temporal'>): Promise<SurefireClient> {
  const { address, namespace, webUrl } = config.temporal;
  const connection = await connectTemporal(config.temporal, 5000).catch((error: unknown) => {
    throw clientFailure(error, 'Connecting', address);
  });
  return new SurefireClient(connection, address, namespace, webUrl);
}

/**
 * Everything a person or a program may do with migrations. The only place that knows workflow ids.
 *
 * Every method throws TemporalUnreachable when the server does not answer, and MigrationNotFound for an unknown id.
 */
export class SurefireClient {
  readonly #connection: Connection;
  readonly #client: Client;
  readonly #address: string;
  readonly #namespace: string;
  readonly #webUrl: string;

  constructor(connection: Connection, address: string, namespace: string, webUrl: string) {
    this.#connection = connection;
    this.#client = new Client({ connection, namespace });
    this.#address = address;
    this.#namespace = namespace;
    this.#webUrl = webUrl;
  }

  /** @throws MigrationRunning when this VM is being migrated, AlreadyMigrated when it was and no `repeatReason` is given. */
  async start(input: MigrationInput) {
    const { vm, source, target } = input;
    const migrationId = migrationIdOf(source.vcenter, source.vmMoRef);
    try {
      const handle = await this.#within(CALL_MS, () =>
        this.#client.workflow.start(WORKFLOW_TYPE, {
          workflowId: migrationId,
          taskQueue: ORCHESTRATOR_QUEUE,
          args: [input],
          // A success is never repeated by accident (design 1); a stated reason is no accident.
          workflowIdReusePolicy: input.repeatReason
            ? WorkflowIdReusePolicy.ALLOW_DUPLICATE
            : WorkflowIdReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
          workflowIdConflictPolicy: WorkflowIdConflictPolicy.FAIL,
          staticSummary: `${vm}: ${source.vcenter} to ${target.pool}`.slice(0, 190),
          staticDetails: `**${vm}** (${source.vmMoRef}) from ${source.vcenter} to ${target.pool}, asked for by ${input.requestedBy}.\n\nFollow it: \`surefire watch ${source.vmMoRef}\``,
          typedSearchAttributes: [
            { key: ATTRIBUTES.sourceVm, value: vm },
            { key: ATTRIBUTES.vcenter, value: source.vcenter },
            { key: ATTRIBUTES.pool, value: target.pool },
            { key: ATTRIBUTES.stage, value: 'preflight' },
            { key: ATTRIBUTES.waitingFor, value: 'none' },
            { key: ATTRIBUTES.outcome, value: 'running' },
            { key: ATTRIBUTES.stageSince, value: new Date() },
          ],
        }),
      );
      const runId = handle.firstExecutionRunId;
      return { migrationId, runId, webUrl: this.webUrl(migrationId, runId) };
    } catch (error) {
      if (error instanceof WorkflowExecutionAlreadyStartedError) throw await this.#duplicate(migrationId, vm);
      throw clientFailure(error, `Starting ${migrationId}`, this.#address);
    }
  }

  /** Says beforehand what `start` would refuse. @throws MigrationRunning, AlreadyMigrated */
  async requireFree({ vm, source, repeatReason }: MigrationInput): Promise<void> {
    const migrationId = migrationIdOf(source.vcenter, source.vmMoRef);
    const found = await this.list();
    const execution = found.find((row) => row.migrationId === migrationId)?.execution;
    if (execution === 'RUNNING' || (execution === 'COMPLETED' && !repeatReason))
      throw await this.#duplicate(migrationId, vm);
  }

  /** Search attributes and heartbeats first, then the workflow's own answer, if a worker is there to give it. */
  async status(migrationId: string): Promise<MigrationView> {
    const handle = this.#client.workflow.getHandle(migrationId);
    const description = await this.#call(`Status of ${migrationId}`, () => handle.describe());
    const known = { ...rowOf(description), steps: stepsOf(description) };
    try {
      return { ...known, status: await this.#within(QUERY_MS, () => handle.query(statusQuery)) };
    } catch (error) {
      const why = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
      return { ...known, statusUnavailable: `no worker answered: ${why.replace(/^\d+ [A-Z_]+: /, '')}` };
    }
  }

  /**
   * Sends an operator's word as an update and waits until it is accepted or refused, at most a minute.
   * @throws WrongStage, EvidenceMissing or UpdateRefused with the workflow's sentence.
   */
  async send<N extends MessageName>(name: N, migrationId: string, argument: MessageArguments[N]): Promise<Accepted> {
    const what = `${name} for ${migrationId}`;
    // Fresh for each press, the same for the client's own retries of one press. Were it stable across presses, the
    // server would answer a second try with the first one's refusal, long after the evidence has come.
    const updateId = `${name}:${randomUUID()}`;
    const [description, workers] = await this.#call(what, async () => [
      await this.#client.workflow.getHandle(migrationId).describe(),
      await this.#workersOf(ORCHESTRATOR_QUEUE),
    ]);
    if (description.status.name !== 'RUNNING') {
      throw failure('WrongStage', {
        what: `${what} was refused: the migration has ended (${description.status.name.toLowerCase()}).`,
        next: 'read how with `surefire report`.',
      });
    }
    if (workers.length === 0) {
      throw failure('TemporalUnreachable', {
        what: `${what} was not sent: no worker polls the queue "${ORCHESTRATOR_QUEUE}".`,
        next: 'start the workers (`surefire up`), then send it again.',
      });
    }
    const handle = this.#client.workflow.getHandle(migrationId, description.runId);
    // The definition's own argument type is a conditional one that TypeScript cannot resolve for a name not yet known.
    const args = [argument] as [MessageArguments[N]];
    const update = () => handle.executeUpdate<Accepted, [MessageArguments[N]]>(updateOf(name).name, { args, updateId });
    return this.#call(what, update, UPDATE_MS);
  }

  /** Ends the pause of one step that was made in the Web UI, or by Temporal's own means. */
  async unpauseStep(migrationId: string, activityId: string, { operator, reason }: Word): Promise<void> {
    await this.#call(`Resuming ${activityId} of ${migrationId}`, async () => {
      await this.#connection.workflowService.unpauseActivity({
        namespace: this.#namespace,
        execution: { workflowId: migrationId },
        id: activityId,
        identity: operator,
      });
      // The workflow is not told of such a pause; its record is.
      const text = `${activityId} was resumed${reason ? `: ${reason}` : ''}`;
      await this.#client.workflow.getHandle(migrationId).signal(signalOf('addNote').name, { operator, text });
    });
  }

  /** Newest first, one row for each VM. */
  async list(): Promise<MigrationRow[]> {
    return this.#call('Listing migrations', async () => {
      const newest = new Map<string, MigrationRow>();
      for await (const info of this.#client.workflow.list({ query: `WorkflowType = "${WORKFLOW_TYPE}"` })) {
        const row = rowOf(info);
        const seen = newest.get(row.migrationId);
        if (seen === undefined || seen.startedAt < row.startedAt) newest.set(row.migrationId, row);
      }
      return [...newest.values()].sort((a, b) => b.startedAt.localeCompare(a.startedAt));
    });
  }

  /** Asks for the orderly end: everything made is undone, the run ends as Aborted. Needs no worker to be heard. */
  async cancel(migrationId: string, { operator, reason }: Word): Promise<void> {
    const text = `Cancel was asked for${reason ? `: ${reason}` : ''}`;
    await this.#call(`Cancelling ${migrationId}`, async () => {
      const handle = this.#client.workflow.getHandle(migrationId);
      // Temporal keeps no name with a cancel request; a signal waits for the worker as the request does.
      await handle.signal(signalOf('addNote').name, { operator, text });
      await handle.cancel();
    });
  }

  /** Waits for the end, however long. */
  async result(migrationId: string): Promise<Ending> {
    try {
      const report = (await this.#client.workflow.getHandle(migrationId).result()) as MigrationReport;
      return { outcome: report.outcome, report };
    } catch (error) {
      if (!(error instanceof WorkflowFailedError))
        throw clientFailure(error, `Result of ${migrationId}`, this.#address);
      return endingOf(error);
    }
  }

  webUrl(migrationId: string, runId?: string): string {
    const page = `${this.#webUrl}/namespaces/${this.#namespace}/workflows/${encodeURIComponent(migrationId)}`;
    // What to do now is on a tab of its own, and only the address with the run leads there.
    return runId === undefined ? page : `${page}/${runId}/user-metadata`;
  }

  async health(transferQueue: string): Promise<ServerHealth> {
    return this.#call('Asking for the server', async () => {
      const info = await this.#connection.workflowService.getSystemInfo({});
      return {
        serverVersion: info.serverVersion ?? '',
        missingAttributes: await missingAttributes(this.#connection, this.#namespace),
        workers: {
          [ORCHESTRATOR_QUEUE]: await this.#workersOf(ORCHESTRATOR_QUEUE),
          [transferQueue]: await this.#workersOf(transferQueue),
        },
      };
    });
  }

  async close(): Promise<void> {
    await this.#connection.close();
  }

  /** Identities (`pid@host`) of the workers that take work from a queue now. */
  async workersOf(queue: string): Promise<string[]> {
    return this.#call(`Asking for the workers of ${queue}`, () => this.#workersOf(queue));
  }

  #workersOf(queue: string): Promise<string[]> {
    const kind = queue === ORCHESTRATOR_QUEUE ? 'workflow' : 'activity';
    return workersOf(this.#connection.workflowService, this.#namespace, queue, kind);
  }

  async #duplicate(migrationId: string, vm: string): Promise<Error> {
    const { execution, stage, startedAt, closedAt } = await this.status(migrationId);
    if (execution === 'RUNNING') {
      return failure('MigrationRunning', {
        what: `${vm} is being migrated already, since ${startedAt}, now in stage ${stage}.`,
        next: `follow it with \`surefire watch ${vm}\`.`,
      });
    }
    return failure('AlreadyMigrated', {
      what: `${vm} was migrated already; that run ended ${closedAt ?? 'before'}.`,
      why: 'A second run would make a second copy of the same machine.',
      next: 'if that is wanted, say why with --repeat REASON.',
    });
  }

  #within<R>(ms: number, call: () => Promise<R>): Promise<R> {
    return this.#client.withDeadline(Date.now() + ms, call);
  }

  async #call<R>(what: string, call: () => Promise<R>, withinMs = CALL_MS): Promise<R> {
    try {
      return await this.#within(withinMs, call);
    } catch (error) {
      throw clientFailure(error, what, this.#address);
    }
  }
}
