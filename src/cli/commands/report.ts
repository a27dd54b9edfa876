import { writeFileSync } from 'node:fs';
import { failure } from '../../shared/index.js';
import type { SurefireClient } from '../../client.js';
import type { Context } from '../context.js';
import { findMigration } from '../find-migration.js';
import { reportMarkdown, type Reportable } from '../report-markdown.js';

/** What happened so far, or in the end: Markdown, or with --json the data it is made of. */
export async function report(context: Context, options: { out?: string }, vm: string): Promise<void> {
  const client = await context.client();
  const { migrationId } = await findMigration(client, vm);
  const data = await dataOf(client, migrationId);
  if (options.out === undefined) return context.result({ ...data }, reportMarkdown(data));
  const text = context.json ? JSON.stringify(data, undefined, 2) : reportMarkdown(data);
  try {
    writeFileSync(options.out, `${text}\n`);
  } catch (error) {
    throw failure('UsageInvalid', {
      what: `The report cannot be written to ${options.out}.`,
      why: (error as Error).message,
      next: 'name another file with --out.',
    });
  }
  context.result({ migrationId, file: options.out }, `Written: ${options.out}`);
}

async function dataOf(client: SurefireClient, migrationId: string): Promise<Reportable> {
  const view = await client.status(migrationId);
  if (view.execution !== 'RUNNING') {
    const ending = await client.result(migrationId);
    if (ending.report !== undefined) return ending.report;
  }
  if (view.status !== undefined) return view.status;
  throw failure('TemporalUnreachable', {
    what: `${view.vm} left no report, and its state could not be asked.`,
    why: view.statusUnavailable,
    next: 'start the workers (`surefire up`), then ask again.',
  });
}
