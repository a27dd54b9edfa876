import { z } from 'zod';
import { NO_FILE_SHARE } from './config-schema.js';

/**
 * Everything wrong with a parsed `surefire.yaml`, one sentence each, led by the line and the path of the key.
 *
 * Values are never quoted, except those that are words of ours: a password typed into the wrong place stays unseen.
 */
export function describeMistakes(
  schema: z.ZodType,
  issues: readonly z.core.$ZodIssue[],
  lineOf: (path: readonly PropertyKey[]) => number,
): string[] {
  const say = (path: readonly PropertyKey[], text: string) => `line ${lineOf(path)}: ${pathOf(path)}: ${text}`;
  return issues.flatMap((issue) =>
    issue.code === 'unrecognized_keys'
      ? issue.keys.map((key) => say([...issue.path, key], unknownKey(key, knownKeys(schema, issue.path))))
      : [say(issue.path, wording(issue))],
  );
}

function pathOf(path: readonly PropertyKey[]): string {
  return path.length === 0 ? 'the file' : path.map(String).join('.');
}

function wording(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_type') {
    const missing = issue.message.endsWith('received undefined');
    return missing
      ? 'is missing'
      : issue.message.replace('Invalid input: expected', 'must be a').replace(', received', ', not');
  }
  return issue.message.replace(/^Too (big|small): expected (\w+) to (?:be|have) /, 'must be ');
}

function unknownKey(key: string, known: string[]): string {
  if (/nfs|vsan/i.test(key)) return NO_FILE_SHARE;
  if (/^(password|secret|token)$/i.test(key)) return 'no secrets in this file; use passwordFile or passwordEnv';
  const close = known
    .map((name) => ({ name, away: distance(key.toLowerCase(), name.toLowerCase()) }))
    .sort((a, b) => a.away - b.away)[0];
  if (close !== undefined && close.away <= Math.max(2, key.length / 3))
    return `unknown key; did you mean ${close.name}?`;
  return `unknown key; known here: ${known.join(', ')}`;
}

/** Names of the keys that may stand at `path`. */
function knownKeys(schema: z.ZodType, path: readonly PropertyKey[]): string[] {
  let at = bare(schema);
  for (const step of path) {
    if (at instanceof z.ZodObject) at = bare(at.shape[String(step)]);
    else if (at instanceof z.ZodRecord) at = bare(at.valueType as z.ZodType);
  }
  return at instanceof z.ZodObject ? Object.keys(at.shape) : [];
}

function bare(schema: z.ZodType): z.ZodType {
  const wrapped = schema instanceof z.ZodPrefault || schema instanceof z.ZodOptional || schema instanceof z.ZodDefault;
  return wrapped ? bare(schema.unwrap() as z.ZodType) : schema;
}

/** Edits (insert, remove, replace) that turn one word into the other. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length]!;
}
