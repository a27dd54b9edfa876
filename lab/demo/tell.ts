import pc from 'picocolors';

/** Where the demo's story goes: lines for people, or JSON lines, never both. */
export interface Teller {
  readonly isJson: boolean;
  /** A heading, and what it means. */
  chapter(title: string, why?: string): void;
  /** Something that happened, to a VM or to all. */
  line(text: string, vm?: string): void;
  /** The same for programs: printed only as JSON. */
  event(fields: Record<string, unknown>): void;
  /** The last line. */
  end(result: Record<string, unknown>, summary: string): void;
}

const COLOURS = [pc.cyan, pc.magenta, pc.yellow, pc.green];

/** Tells the demo's story on stdout. */
export function createTeller(isJson: boolean): Teller {
  const colours = new Map<string, (text: string) => string>();
  const colourOf = (vm: string) => {
    const colour = colours.get(vm) ?? COLOURS[colours.size % COLOURS.length] ?? pc.cyan;
    colours.set(vm, colour);
    return colour;
  };
  const print = (text: string) => void process.stdout.write(`${text}\n`);
  const human = (text: string) => {
    if (!isJson) print(text);
  };
  return {
    isJson,
    chapter: (title, why) => human(`\n${pc.bold(title)}${why ? `\n${pc.dim(why)}` : ''}`),
    line(text, vm) {
      const [first = '', ...rest] = text.split('\n');
      const head = vm === undefined ? '  ' : `${colourOf(vm)(vm.padEnd(6))} `;
      human([head + first, ...rest.map((more) => ' '.repeat(vm === undefined ? 2 : 7) + more)].join('\n'));
    },
    event(fields) {
      if (isJson) print(JSON.stringify({ schema: 1, ...fields }));
    },
    end(result, summary) {
      print(isJson ? JSON.stringify({ schema: 1, ...result }) : summary);
    },
  };
}
