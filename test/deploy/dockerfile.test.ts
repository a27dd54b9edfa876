import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DockerfileParser, type Copy, type From, type Instruction } from 'dockerfile-ast';
import { describe, expect, it } from 'vitest';
import { ROOT } from './compose.js';

const read = (file: string) => readFileSync(join(ROOT, file), 'utf8');
const dockerfile = DockerfileParser.parse(read('deploy/Dockerfile'));

interface Stage {
  name: string | null;
  image: string | null;
  instructions: Instruction[];
}

const stages: Stage[] = [];
for (const instruction of dockerfile.getInstructions()) {
  if (instruction.getKeyword() === 'FROM') {
    const from = instruction as From;
    stages.push({ name: from.getBuildStage(), image: from.getImage(), instructions: [] });
  } else stages.at(-1)?.instructions.push(instruction);
}

const words = (instruction: Instruction) => instruction.getArguments().map((argument) => argument.getValue());
const of = (stage: Stage | undefined, keyword: string) =>
  (stage?.instructions ?? []).filter((instruction) => instruction.getKeyword() === keyword);
/** Continued lines as one. */
const commands = (stage: Stage | undefined) =>
  of(stage, 'RUN').map((run) => (run.getArgumentsContent() ?? '').replaceAll(/\\\n/g, ' ').replaceAll(/ +/g, ' '));
const copies = (stage: Stage | undefined) =>
  of(stage, 'COPY').map((copy) => {
    const from = (copy as Copy)
      .getFlags()
      .find((flag) => flag.getName() === 'from')
      ?.getValue();
    return { from, paths: words(copy).filter((word) => !word.startsWith('--')) };
  });

describe('deploy/Dockerfile', () => {
  const [build, image] = stages;

  it('builds in one stage and ships another, both of Debian 13 with the same LTS of Node', () => {
    expect(stages.map(({ name, image: of }) => [name, of])).toEqual([
      ['build', 'node:24-trixie-slim'],
      [null, 'node:24-trixie-slim'],
    ]);
  });

  it('is written in instructions that the parser knows', () => {
    const known = /^(FROM|WORKDIR|COPY|RUN|ENV|USER|CMD)$/;
    expect(dockerfile.getInstructions().filter((instruction) => !known.test(instruction.getKeyword()))).toEqual([]);
  });

  it('installs exactly what the lock file says, and only what runs gets into the image', () => {
    expect(commands(build)[0]).toMatch(/^npm ci /);
    expect(commands(build)[1]).toMatch(/^npm run build .*npm prune --omit=dev/s);
  });

  it('copies what is there, and what .dockerignore lets through', () => {
    const ignore = read('.dockerignore')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'));
    expect(ignore[0]).toBe('*');
    const allowed = ignore.slice(1);
    const copied = [...copies(build), ...copies(image)].filter(({ from }) => from == null);
    const sources = new Set(copied.flatMap(({ paths }) => paths.slice(0, -1)));
    expect([...sources].map((source) => `!${source}`).sort()).toEqual([...new Set(allowed)].sort());
    expect([...sources].filter((source) => !existsSync(join(ROOT, source)))).toEqual([]);
  });

  it('takes from the build only node_modules and dist, to where they were built', () => {
    expect(copies(image).filter(({ from }) => from != null)).toEqual([
      { from: 'build', paths: ['/opt/surefire/node_modules', 'node_modules'] },
      { from: 'build', paths: ['/opt/surefire/dist', 'dist'] },
    ]);
    expect(of(image, 'WORKDIR').map(words)).toEqual([['/opt/surefire']]);
  });

  it('has nbdkit, its vddk plugin and nbdinfo from Debian, and nothing of VMware', () => {
    const install = commands(image).find((command) => command.includes('apt-get install'));
    expect(install).toContain('Components: main contrib');
    const packages = /--no-install-recommends ([^&]+)&&/
      .exec(install ?? '')?.[1]
      ?.trim()
      .split(' ');
    expect(packages).toEqual(['ca-certificates', 'iproute2', 'libnbd-bin', 'nbdkit', 'nbdkit-plugin-vddk']);
    const everything = stages
      .flatMap(({ instructions }) => instructions)
      .map((instruction) => instruction.getRawArgumentsContent());
    expect(everything.join('\n')).not.toMatch(/vix|vmware/i);
  });

  it('runs as the user whose number docker-compose.yml takes as default, not as root', () => {
    expect(
      image?.instructions.filter((instruction) => /^(USER|CMD)$/.test(instruction.getKeyword())).map(words),
    ).toEqual([['node'], ['["surefire",', '"help"]']]);
  });
});
