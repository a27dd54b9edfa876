import { caseAsMarkdown, isBounded, type CaseResult } from './report.js';

/** docs/performance.md. What a reader has to know stands here; the figures come from the run. */
export function performancePage(facts: Record<string, string>, results: CaseResult[]): string {
  const missed = results.flatMap(({ id, targets }) =>
    targets.filter(({ met }) => !met).map(({ what }) => `(${id}) ${what}`),
  );
  const others = results.flatMap(({ rows }) => rows.map(({ foreign }) => foreign));
  const foreign = others.reduce((sum, value) => sum + value, 0) / Math.max(1, others.length);
  const count = results.reduce((sum, { targets }) => sum + targets.filter(isBounded).length, 0);
  return `${[
    '# Performance',
    '<!-- Written by `npm run bench -- --write`; change bench/, not this page. -->',
    `How fast the mover is, measured by \`npm run bench\` beside what this machine can do at all. ${count - missed.length} of ${count} targets are met.`,
    '## The machine',
    Object.entries(facts)
      .map(([name, value]) => `- ${name}: ${value}`)
      .join('\n'),
    foreign < 0.2
      ? 'Nobody else used it to speak of.'
      : `**It was not left alone:** others used ${foreign.toFixed(1)} of its CPUs on average. CPU per GiB still compares within a table; rates, seconds and loop delays then say little, and nor does a target on them that is missed.`,
    '## How to read the tables',
    [
      '- Rows of one table were run in turn, forwards and backwards, each with a new nbdkit and a new receiver. Compare within a table; between tables the machine may have been another one.',
      '- Figures are medians. Rates count the bytes that had to be moved, not those that were sent.',
      '- `ours` is the mover as the product runs it: TLS, BLAKE3 of every byte, zero test, checkpoints, in a process that has copied before, as a worker has.',
      '- `C mover` does the same with one native thread and nothing around it: the limit.',
      '- Disks are files in memory behind `nbdkit file`; the receiver counts and forgets, with the TLS policy of XAPI. A real source and a real host are slower: CPU per GiB tells how many streams one core feeds.',
      '- On two CPUs sender, nbdkit and receiver compete; rates are those of all three together.',
    ].join('\n'),
    '## Results',
    ...results.map(caseAsMarkdown),
  ].join('\n\n')}\n`;
}
