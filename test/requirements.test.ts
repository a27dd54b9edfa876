import { expect, test } from 'vitest';
import { findProofs, proofsIn, readRequirements, renderTable } from '../scripts/requirements.js';

test('every number in a title is a requirement', async () => {
  const requirements = await readRequirements();
  const proofs = await findProofs();
  const unknown = proofs.flatMap(({ file, title, numbers }) =>
    numbers.filter((number) => !requirements.has(number)).map((number) => `${number}: ${file}: ${title}`),
  );
  expect(proofs.length).toBeGreaterThan(0);
  expect(unknown).toEqual([]);
});

test('the list is complete', async () => {
  const numbers = [...(await readRequirements()).keys()];
  const upTo = (letter: string, last: number) => Array.from({ length: last }, (_, index) => `${letter}${index + 1}`);
  expect(numbers).toEqual([...upTo('S', 148), ...upTo('D', 15)]);
});

test('finds numbers in titles of every form, and nowhere else', () => {
  // Put together here, so that the collector does not take these for titles of this file.
  const [first, second, third] = ['[' + 'S1]', '[' + 'S2, S3]', '[' + 'D4][' + 'D5]'];
  const source = [
    `it('${first} one', () => {});`,
    `test.skipIf(noTools)(\n  "${second} two's", async () => {});`,
    `describe.each(['a'])('${third} three %s', () => {});`,
    `// ${first} a comment`,
    `test('none', () => expect('${first}').toBe(1));`,
  ].join('\n');
  expect(proofsIn(source, 'f').map(({ title, numbers }) => [title, numbers])).toEqual([
    ['one', ['S1']],
    ["two's", ['S2', 'S3']],
    ['three %s', ['D4', 'D5']],
  ]);
});

test('a requirement without a test is listed as not yet covered', () => {
  const requirements = new Map([
    ['S1', 'first'],
    ['S2', 'second'],
  ]);
  const table = renderTable(requirements, [{ file: 'test/a.test.ts', title: 'proves a|b', numbers: ['S2'] }]);
  expect(table).toContain('1 of 2 are covered');
  expect(table).toContain('| S1 | first | not yet covered |');
  expect(table).toContain('| S2 | second | proves a\\|b ([test/a.test.ts](../test/a.test.ts)) |');
});
