import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { FAILURE_TYPES, FINDING_CODES } from '../src/shared/index.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const document = readFileSync(join(root, 'docs/operations.md'), 'utf8');
const headings = [...document.matchAll(/^#### (.*)$/gm)].map(([, heading = '']) => heading);

/** All of `src`, with every inserted value as `…`, so that sentences read as they are printed. */
const source = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => readFileSync(join(root, 'src', name), 'utf8'))
  .join('\n')
  .replaceAll('\\`', '`')
  .replaceAll(/\$\{(?:[^{}]|\{[^{}]*\})*\}/g, '…');

// Markdown escapes and quotes as Prettier may write them are no part of the sentence.
const fragments = (heading: string) =>
  heading
    .replaceAll('\\', '')
    .split('…')
    .map((part) => part.replace(/[.:]?$/, '').trim())
    .filter((part) => part.length > 3);

test.each(headings)('the heading "%s" is printed by the code', (heading) => {
  expect(fragments(heading).filter((part) => !source.includes(part))).toEqual([]);
});

test.each(Object.keys(FAILURE_TYPES))('what to do about %s is described', (type) => {
  expect(document).toMatch(new RegExp(`\\b${type}\\b`));
});

test('every finding has its row, in the order and by the names of the code', () => {
  const rows = [...document.matchAll(/^\| `(\w+)` +\| ([^|]+?) +\| \S/gm)].map(([, code, title = '']) => [code, title]);
  const named = rows.filter(([code]) => code !== undefined && code in FINDING_CODES);
  expect(named.map(([code, title]) => `${code} ${title}`)).toEqual(
    Object.entries(FINDING_CODES).map(([code, title]) => `${code} ${title[0]!.toUpperCase()}${title.slice(1)}`),
  );
});

test.each(Object.keys(FINDING_CODES))('a check can find %s', (code) => {
  const uses = source.split(`'${code}'`).length - 1;
  expect(uses).toBeGreaterThan(0);
});
