#!/usr/bin/env node
import { CommanderError } from 'commander';
import { failure, failureMessageOf, failureTypeOf } from '../shared/index.js';
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

/** Commander's word on a wrong command line, in our three parts. */
function usageFailure({ message }: CommanderError): Error {
  const [what = '', hint] = message.replace(/^error: /, '').split('\n');
  return failure('UsageInvalid', {
    what: `This cannot be understood: ${what.replace(/[.]?$/, '.')}`,
    why: hint?.replace(/^\((.*)\)$/, '$1'),
    next: 'see `surefire help`, or `surefire help COMMAND` for what a command takes.',
  });
}

// `surefire watch web01 | head` closes our stdout; that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? EXIT.done : EXIT.failed);
});

try {
  await createProgram().parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) process.exitCode = tell(error);
  else if (error.exitCode === 0) process.exitCode = EXIT.done;
  // Help was asked for by giving no command at all: it has been shown.
  else if (error.code === 'commander.help') process.exitCode = EXIT.usage;
  else process.exitCode = tell(usageFailure(error));
}
