import type { Ending, MigrationRow, MigrationView } from './client-view.js';
import type { MigrationInput, Word } from './shared/index.js';
import type { Accepted, MessageArguments, MessageName } from './workflows/messages.js';

/** What `check` wants to know of the server. */
export interface ServerHealth {
  serverVersion: string;
  missingAttributes: string[];
  /** Identities of the workers that polled lately, by queue. The server remembers a dead one for some minutes. */
  workers: Record<string, string[]>;
}

/**
 * Everything a person or a program may do with migrations. The only place that knows workflow ids.
 *
 * Every method throws TemporalUnreachable when the server does not answer, and MigrationNotFound for an unknown id.
 */
export interface SurefireClient {
  /** @throws MigrationRunning when this VM is being migrated, AlreadyMigrated when it was and no `repeatReason` is given. */
  start(input: MigrationInput): Promise<{ migrationId: string; runId: string; webUrl: string }>;
  /** Search attributes and heartbeats first, then the workflow's own answer, if a worker is there to give it. */
  status(migrationId: string): Promise<MigrationView>;
  /**
   * Sends an operator's word as an update and waits until it is accepted or refused, at most a minute.
   * @throws WrongStage, EvidenceMissing or UpdateRefused with the workflow's sentence.
   */
  send<N extends MessageName>(name: N, migrationId: string, argument: MessageArguments[N]): Promise<Accepted>;
  /** Newest first, one row for each VM. */
  list(): Promise<MigrationRow[]>;
  /** Asks for the orderly end: everything made is undone, the run ends as Aborted. Needs no worker to be heard. */
  cancel(migrationId: string, word: Word): Promise<void>;
  /** Waits for the end, however long. */
  result(migrationId: string): Promise<Ending>;
  webUrl(migrationId: string, runId?: string): string;
  health(transferQueue: string): Promise<ServerHealth>;
  close(): Promise<void>;
}
