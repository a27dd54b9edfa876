import { setTimeout as sleep } from 'node:timers/promises';
import type { Ending } from '../../src/client.js';
import { failureMessageOf, failureTypeOf } from '../../src/shared/index.js';
import type { MigrationReport, MigrationStatus, WaitingFor } from '../../src/shared/index.js';
import { updateOf } from '../../src/workflows/messages.js';
import type { MessageArguments, MessageName } from '../../src/workflows/messages.js';
import { isSameContent, OPERATOR, type Bench } from './harness.js';

/** How long something that never comes is waited for: on a busy machine everything takes ten times as long. */
const GATE_MS = 180_000;

type Said<N extends MessageName> = Omit<MessageArguments[N], 'operator'> & { operator?: string };

/** One migration under test, and the person who answers it. */
export class Run {
  readonly id: string;
  readonly #bench: Bench;
  readonly #vm: string;

  constructor(bench: Bench, vm: string, id: string) {
    this.#bench = bench;
    this.#vm = vm;
    this.id = id;
  }

  async status(): Promise<MigrationStatus> {
    return waitFor('a status', async () => (await this.#bench.client.status(this.id)).status);
  }

  /** Waits for a gate, or for one of these. @throws Error when the run ends before, or stops for a decision nobody expects. */
  reaches(...gates: WaitingFor[]): Promise<MigrationStatus> {
    return this.#wait(`being at ${gates.join(' or ')}`, async () => {
      const { status, execution } = await this.#bench.client.status(this.id);
      if (status && gates.includes(status.waitingFor)) return status;
      const stuck = execution !== 'RUNNING' || status?.waitingFor === 'decision';
      if (!stuck) return undefined;
      throw new Error(`${this.#vm} is ${execution}: ${status?.instruction ?? status?.record.at(-1)?.text}`);
    });
  }

  /** Waits until the record has a line with these words. */
  async records(words: string): Promise<MigrationStatus> {
    return this.#wait(`"${words}" in the record`, async () => {
      const status = await this.status();
      return status.record.some(({ text }) => text.includes(words)) ? status : undefined;
    });
  }

  /** Waits until bytes of a disk are on their way. */
  async isSending(): Promise<void> {
    await this.#wait('sending', async () => {
      const { steps } = await this.#bench.client.status(this.id);
      return steps.some(({ progress }) => progress?.phase === 'copy' && progress.doneBytes > 0) || undefined;
    });
  }

  /** The person speaks; the answer is the workflow's. */
  say<N extends MessageName>(name: N, argument: Said<N>) {
    return this.#bench.client.send(name, this.id, { operator: OPERATOR, ...argument } as MessageArguments[N]);
  }

  /** As a client does that checks nothing itself. */
  sayRaw(name: MessageName, argument: unknown): Promise<unknown> {
    return this.#handle().executeUpdate(updateOf(name).name, { args: [argument] });
  }

  signal(name: MessageName, argument: unknown): Promise<void> {
    return this.#handle().signal(name, argument);
  }

  /** The guest's administrator uninstalls Tools and reboots, once it has been seen that they are gone. */
  async removeTools(): Promise<void> {
    await this.#bench.vsphere.setTools(this.#vm, 'none');
    await this.records('VMware Tools are gone');
    await this.#bench.vsphere.reboot(this.#vm);
  }

  /** Through every gate that is left until this one. */
  async goTo(gate: 'verification' | 'cutover-approval' | 'power-off' | 'acceptance'): Promise<MigrationStatus> {
    for (;;) {
      const status = await this.reaches('verification', 'cutover-approval', 'power-off', gate);
      const { waitingFor } = status;
      if (waitingFor === gate) return status;
      if (waitingFor === 'verification') await this.say('acceptTestCopy', {});
      else if (waitingFor === 'cutover-approval') await this.say('approveCutover', {});
      else await this.#bench.vsphere.shutdown(this.#vm);
      await this.#wait(
        `leaving ${waitingFor}`,
        async () => (await this.status()).waitingFor !== waitingFor || undefined,
      );
    }
  }

  /** Accepts as soon as the read-back is through, and gives the report. */
  async accept(): Promise<MigrationReport> {
    await this.records('was read back in full');
    await this.say('acceptMigration', {});
    const { outcome, report, failure } = await this.ends();
    if (outcome !== 'migrated' || report === undefined) throw new Error(`not migrated: ${failure?.message}`);
    return report;
  }

  cancel(reason = 'changed our minds'): Promise<void> {
    return this.#bench.client.cancel(this.id, { operator: OPERATOR, reason });
  }

  async ends(): Promise<Ending> {
    const late = sleep(GATE_MS, undefined, { ref: false }).then(() => {
      throw new Error(`${this.#vm} did not end in time`);
    });
    return Promise.race([this.#bench.client.result(this.id), late]);
  }

  /** True for each disk whose final target snapshot holds, byte for byte, what the source holds. */
  async comparesEqual({ artifacts }: MigrationReport): Promise<boolean[]> {
    const disks = artifacts.targetSnapshots.find(({ name }) => name === 'complete import from V2V')?.disks ?? [];
    const sources = await this.#bench.sourceFiles(this.#vm);
    const targets = await this.#bench.vdiFiles(disks.map(({ vdiUuid }) => vdiUuid));
    return Promise.all(sources.map((source, index) => isSameContent(source, targets[index] ?? '')));
  }

  /** As `waitFor`, and says where the migration stands when it was in vain. */
  async #wait<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
    try {
      return await waitFor(`${this.#vm}: ${what}`, look);
    } catch (error) {
      const { stage, waitingFor, steps, status } = await this.#bench.client.status(this.id);
      const where = { stage, waitingFor, steps, record: status?.record.slice(-3).map(({ text }) => text) };
      throw new Error(`${String(error)}\n${JSON.stringify(where, undefined, 2)}`, { cause: error });
    }
  }

  #handle() {
    return this.#bench.temporal.workflow.getHandle(this.id);
  }
}

/** Type and text of the failure that something ends with. */
export async function failureOf(action: Promise<unknown>): Promise<{ type: string | undefined; message: string }> {
  try {
    await action;
  } catch (error) {
    return { type: failureTypeOf(error), message: failureMessageOf(error) };
  }
  throw new Error('it did not fail');
}

/** Looks until there is something. */
export async function waitFor<T>(
  what: string,
  look: () => Promise<T | undefined | false>,
  timeoutMs = GATE_MS,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const seen = await look();
    if (seen !== undefined && seen !== false) return seen;
    if (Date.now() > deadline) throw new Error(`Waited ${timeoutMs / 1000} s in vain for ${what}.`);
    await sleep(200);
  }
}
