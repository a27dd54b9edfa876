#!/usr/bin/env node
import { CommanderError } from 'commander';
import { failureMessageOf, failureTypeOf } from '../shared/index.js';
import { redactError } from '../shared/redaction.js';
import { EXIT, exitCodeOf } from './exit-codes.js';
import { createProgram } from './program.js';

/** Errors in three parts on stderr; with --json also as a document on stdout, for programs that read only that. */
function tell(error: unknown): number {
  const exitCode = exitCodeOf(error);
  const message = failureMessageOf(error);
  process.stderr.write(`${message}\n`);
  if (process.argv.includes('--debug')) process.stderr.write(`${redactError(error).stack}\n`);
  if (process.argv.includes('--json')) {
    const type = failureTypeOf(error) ?? 'Unexpected';
    process.stdout.write(`${JSON.stringify({ schema: 1, error: { type, message }, exitCode })}\n`);
  }
  return exitCode;
}

// `surefire watch web01 | head` closes our stdout; that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? EXIT.done : EXIT.failed);
});

try {
  await createProgram().parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? EXIT.done : EXIT.usage;
  else process.exitCode = tell(error);
}
