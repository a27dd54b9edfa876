import { setTimeout as sleep } from 'node:timers/promises';
import type { MigrationRow, SurefireClient } from '../client.js';
import { failure } from '../shared/index.js';

/** The server's list lags behind a start by a fraction of a second. */
const LIST_LAG_MS = 1000;

/**
 * The migration a person means by a VM's name, its MoRef, `vcenter/moref` or the whole id. One that runs is preferred
 * to those that have ended.
 *
 * @throws MigrationNotFound, or UsageInvalid listing the ids when the name fits several.
 */
export async function findMigration(client: SurefireClient, text: string): Promise<MigrationRow> {
  const deadline = Date.now() + LIST_LAG_MS;
  let fitting = await fittingRows(client, text);
  while (fitting.length === 0 && Date.now() < deadline) {
    await sleep(200);
    fitting = await fittingRows(client, text);
  }
  const running = fitting.filter((row) => row.execution === 'RUNNING');
  const [first, ...others] = running.length > 0 ? running : fitting;
  if (first === undefined) {
    throw failure('MigrationNotFound', {
      what: `There is no migration of "${text}".`,
      next: 'see `surefire status` for those that exist.',
    });
  }
  if (others.length > 0) {
    const ids = [first, ...others].map((row) => `${row.migrationId} (${row.execution.toLowerCase()})`);
    throw failure('UsageInvalid', {
      what: `"${text}" fits ${ids.length} migrations: ${ids.join(', ')}.`,
      next: `use the id, such as \`surefire status ${first.migrationId}\`.`,
    });
  }
  return first;
}

async function fittingRows(client: SurefireClient, text: string): Promise<MigrationRow[]> {
  const rows = await client.list();
  return rows.filter((row) => row.vm === text || row.migrationId === text || row.migrationId.endsWith(`/${text}`));
}
