import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const TABLE = 'docs/requirements.md';

/** A test that carries the number of a requirement in its title. */
export interface Proof {
  /** From the root of the repository. */
  file: string;
  title: string;
  /** `S14`, `D2`. */
  numbers: string[];
}

/** The numbered list, number to sentence. Source: docs/requirements.yaml. */
export async function readRequirements(): Promise<Map<string, string>> {
  const text = await readFile(join(ROOT, 'docs/requirements.yaml'), 'utf8');
  return new Map(Object.entries(parse(text) as Record<string, string>));
}

/**
 * Finds numbers in the titles of a test file: `[S14]`, `[S81, D3]` or `[S1][S2]` after `it(`, `test(` or `describe(`,
 * also where `.each(...)` or `.skipIf(...)` stands between.
 */
export function proofsIn(source: string, file: string): Proof[] {
  const titles = source.matchAll(
    /\b(?:it|test|describe)(?:\.\w+(?:\([^)]*\))?)*\(\s*(['"`])((?:\\.|(?!\1)[\s\S])*?)\1/g,
  );
  return [...titles].flatMap(([, , title = '']) => {
    const groups = title.match(/\[[SD]\d+(?:[\s,]+[SD]\d+)*\]/g) ?? [];
    const numbers = groups.flatMap((group) => group.match(/[SD]\d+/g) ?? []);
    if (numbers.length === 0) return [];
    const plain = title.replaceAll(/\[[SD]\d+(?:[\s,]+[SD]\d+)*\]\s*/g, '').replaceAll(/\\(.)/g, '$1');
    return [{ file, title: plain.trim(), numbers: [...new Set(numbers)] }];
  });
}

/** Every proof in `test/`, in the order of the files' names. */
export async function findProofs(): Promise<Proof[]> {
  const entries = await readdir(join(ROOT, 'test'), { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile() && entry.name.endsWith('.test.ts'))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  const found = await Promise.all(
    files.map(async (file) => proofsIn(await readFile(file, 'utf8'), relative(ROOT, file))),
  );
  return found.flat();
}

/** The document, as Markdown: a count, then one row for each requirement. */
export function renderTable(requirements: Map<string, string>, proofs: Proof[]): string {
  const proving = (number: string) => proofs.filter(({ numbers }) => numbers.includes(number));
  const covered = [...requirements.keys()].filter((number) => proving(number).length > 0);
  const cell = (text: string) => text.replaceAll('|', '\\|').replaceAll('\n', ' ');
  const rows = [...requirements].map(([number, text]) => {
    const tests = proving(number).map(({ file, title }) => `${cell(title)} ([${file}](../${file}))`);
    return `| ${number} | ${cell(text)} | ${tests.join('<br>') || 'not yet covered'} |`;
  });
  return `<!-- prettier-ignore-start -->

# Requirements and the tests that prove them

Written by \`npm run requirements\` from \`requirements.yaml\` and the titles of the tests. ${covered.length} of ${requirements.size} are covered.

| Number | What it must do | Proved by |
|---|---|---|
${rows.join('\n')}

<!-- prettier-ignore-end -->
`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [requirements, proofs] = [await readRequirements(), await findProofs()];
  const unknown = proofs.flatMap(({ file, numbers }) =>
    numbers.filter((number) => !requirements.has(number)).map((number) => `${number} in ${file}`),
  );
  if (unknown.length > 0) throw new Error(`Not in docs/requirements.yaml: ${unknown.join(', ')}.`);
  await writeFile(join(ROOT, TABLE), renderTable(requirements, proofs));
  const covered = new Set(proofs.flatMap(({ numbers }) => numbers)).size;
  process.stdout.write(`${TABLE}: ${covered} of ${requirements.size} requirements are covered.\n`);
}
