import { condition, setHandler } from '@temporalio/workflow';
import { failure, failureMessageOf } from '../shared/index.js';
import type { WaitingFor } from '../shared/index.js';
import { MESSAGES, signalOf, statusQuery, updateOf } from './messages.js';
import type {
  Accepted,
  AddNote,
  AnyMessage,
  DecideAfterFailure,
  MessageArguments,
  MessageName,
  SetLimit,
} from './messages.js';
import { now } from './state.js';
import { switchTransport } from './transport.js';
import type { Migration } from './state.js';

/** Looks at the facts before a message counts; throws EvidenceMissing when they do not agree. */
type Evidence<N extends MessageName> = (argument: MessageArguments[N]) => Promise<void>;

export interface Gate {
  waitingFor: WaitingFor;
  /** What the person has to do, in a sentence. */
  instruction: string;
  /** The messages that open the gate, each with the evidence it needs besides the word. */
  accepts: { [N in MessageName]?: Evidence<N> };
}

interface Meanwhile {
  timeoutMs: number;
  act: () => Promise<void>;
}

/** Words that undo rather than go on: they are never held, and end a pause. */
function goesBack({ name, argument }: AnyMessage): boolean {
  const said = 'then' in argument ? argument.then : 'decision' in argument ? argument.decision : name;
  return ['rollback', 'abort', 'back'].includes(said);
}

/** Words that need no gate, where `Pause` allows them. */
const ANY_TIME: MessageName[] = ['pause', 'resume', 'switchTransport'];

/** No evidence beyond the word. */
export const wordAlone = async (): Promise<void> => {};

/** After a failure: only what makes sense at this point. */
export function oneOf(...decisions: DecideAfterFailure['decision'][]): Evidence<'decideAfterFailure'> {
  return async ({ decision }) => {
    if (decisions.includes(decision)) return;
    throw failure('EvidenceMissing', {
      what: `"${decision}" cannot be decided here.`,
      next: `decide ${decisions.map((one) => `\`${one}\``).join(' or ')}.`,
    });
  };
}

/**
 * The messages of one migration (R28). A synchronous validator checks operator and stage; the handler then looks at the
 * evidence, one message at a time, and opens the gate or says what lacks.
 */
export class Gates {
  readonly #migration: Migration;
  #open: Gate | undefined;
  #decision: AnyMessage | undefined;
  #busy: MessageName | undefined;
  /** Called when a rollback is asked for while nobody waits at a gate (stage 10, "at any time"). */
  interrupt: ((argument: MessageArguments['rollback']) => void) | undefined;

  constructor(migration: Migration) {
    this.#migration = migration;
  }

  /** Registers updates, signals and the query. Must run before the workflow's first await. */
  register(): void {
    setHandler(statusQuery, () => this.#migration.status, { description: 'Where it stands and what it waits for' });
    for (const name of Object.keys(MESSAGES) as MessageName[]) {
      const description = MESSAGES[name];
      setHandler(updateOf(name), (argument) => this.#handle({ name, argument } as AnyMessage), {
        description,
        validator: (argument) => this.#validate(name, argument),
      });
      // For clients that can only signal: the same checks; a refusal is kept in the record because nobody hears it.
      setHandler(
        signalOf(name),
        async (argument) => {
          try {
            this.#validate(name, argument);
            await this.#handle({ name, argument } as AnyMessage);
          } catch (error) {
            this.#migration.note(`Signal ${name} was refused: ${failureMessageOf(error)}`);
          }
        },
        { description },
      );
    }
  }

  /**
   * Waits for a person, however long. A reminder is the search attribute itself; nothing ever expires into an act. While
   * the migration is paused the word is taken, and what follows waits for the resume; unless it leads back.
   */
  async wait(gate: Gate, meanwhile?: Meanwhile): Promise<AnyMessage> {
    const decision = await this.#answerTo(gate, meanwhile);
    if (goesBack(decision)) this.#migration.pause.end('The pause is over.', decision.argument);
    await this.#migration.pause.safePoint();
    return decision;
  }

  async #answerTo(gate: Gate, meanwhile?: Meanwhile): Promise<AnyMessage> {
    const migration = this.#migration;
    this.#open = gate;
    this.#decision = undefined;
    const allowed = [...Object.keys(gate.accepts), ...this.#always];
    migration.set({ waitingFor: gate.waitingFor, instruction: gate.instruction, allowed });
    try {
      const decided = () => this.#decision !== undefined;
      if (meanwhile && !(await condition(decided, Math.max(1, meanwhile.timeoutMs)))) await meanwhile.act();
      await condition(decided);
      return this.#decision as unknown as AnyMessage;
    } finally {
      this.#open = undefined;
      migration.set({ waitingFor: 'none', instruction: undefined, allowed: this.#always });
    }
  }

  /** Between an automatic step's start and end: only `rollback` (when armed) and notes are heard. */
  arm(interrupt: ((argument: MessageArguments['rollback']) => void) | undefined): void {
    this.interrupt = interrupt;
    this.#migration.set({ allowed: this.#always });
  }

  /** What is heard whether or not a gate is open. */
  get #always(): MessageName[] {
    return this.interrupt ? ['rollback', 'addNote'] : ['addNote'];
  }

  #validate(name: MessageName, argument: MessageArguments[MessageName]): void {
    const { vm } = this.#migration.input;
    if (typeof argument?.operator !== 'string' || argument.operator.trim() === '') {
      throw failure('WrongStage', {
        what: `${name} for ${vm} was refused: it does not say who speaks.`,
        next: `send ${MESSAGES[name].replace(/^[^{]*/, '')}`,
      });
    }
    if (name === 'addNote') return validateNote(this.#migration, argument as AddNote);
    if (name === 'setLimit') return validateLimit(vm, argument as SetLimit);
    if (name === 'rollback' && this.interrupt) return;
    const { stage, waitingFor, allowed } = this.#migration.status;
    const isHeard = this.#accepts(name) || (ANY_TIME.includes(name) && allowed.includes(name));
    if (!isHeard) {
      throw failure('WrongStage', {
        what: `${name} for ${vm} was refused: the migration is in stage ${stage}${waitingFor === 'none' ? ' and waits for nobody' : `, waiting for ${waitingFor}`}.`,
        why: `It accepts now: ${allowed.join(', ') || 'nothing'}.`,
        next: `look at \`surefire status ${vm}\`.`,
      });
    }
    if (name === 'pause' || name === 'resume') return;
    if ((this.#open && this.#decision) || this.#busy) {
      throw failure('WrongStage', {
        what: `${name} for ${vm} was refused: ${this.#decision?.name ?? this.#busy} is already being dealt with.`,
        next: `look at \`surefire status ${vm}\`.`,
      });
    }
    if ('override' in argument && argument.override && !argument.reason?.trim()) {
      throw failure('WrongStage', {
        what: `${name} for ${vm} was refused: an override of the evidence needs a reason.`,
        next: 'give it with --reason.',
      });
    }
  }

  async #handle(message: AnyMessage): Promise<Accepted> {
    const migration = this.#migration;
    if (message.name === 'addNote') addNote(migration, message.argument);
    else if (message.name === 'setLimit') setLimit(migration, message.argument);
    else if (message.name === 'pause') migration.pause.begin(message.argument);
    else if (message.name === 'resume') migration.pause.end('Resumed.', message.argument);
    else if (message.name === 'rollback' && this.interrupt) {
      migration.note('Rollback was asked for.', message.argument);
      migration.pause.end('The pause is over.', message.argument);
      this.interrupt(message.argument);
    } else if (message.name === 'switchTransport' && !this.#accepts(message.name)) {
      await this.#busyWith(message.name, () => switchTransport(migration, message.argument));
    } else await this.#decide(message);
    return { stage: migration.stage, acceptedAt: now() };
  }

  async #decide(message: AnyMessage): Promise<void> {
    const gate = this.#open;
    await this.#busyWith(message.name, async () => {
      // The union of names and arguments is one message; TypeScript cannot follow it through the table.
      const evidence = gate?.accepts[message.name] as Evidence<typeof message.name> | undefined;
      await evidence?.(message.argument as never);
      if (this.#open !== gate) {
        throw failure('WrongStage', { what: `${message.name} came too late: the gate has closed meanwhile.` });
      }
      this.#migration.note(`${message.name} was accepted.`, message.argument);
      this.#decision = message;
    });
  }

  #accepts(name: MessageName): boolean {
    return this.#open !== undefined && name in this.#open.accepts;
  }

  /** One message at a time: what another one would answer may look different afterwards. */
  async #busyWith(name: MessageName, act: () => Promise<void>): Promise<void> {
    this.#busy = name;
    try {
      await act();
    } finally {
      this.#busy = undefined;
    }
  }
}

function validateNote(migration: Migration, note: AddNote): void {
  if (note.done === undefined && !note.text?.trim()) {
    throw failure('WrongStage', { what: `The note for ${migration.input.vm} is empty.`, next: 'give it a text.' });
  }
  if (note.done !== undefined && !migration.notes[note.done - 1]?.fix) {
    throw failure('WrongStage', {
      what: `${migration.input.vm} has no fix number ${note.done}.`,
      next: 'take a number from `surefire status`.',
    });
  }
}

function addNote(migration: Migration, { operator, text, fix, done }: AddNote): void {
  if (done !== undefined) {
    const entry = migration.notes[done - 1];
    if (entry) entry.done = { at: now(), operator };
    migration.note(`Fix ${done} was ticked off.`, { operator });
  } else {
    migration.notes.push({ at: now(), operator, text, fix: fix ?? false });
    migration.note(`${fix ? 'Fix' : 'Note'}: ${text}`, { operator });
  }
}

function validateLimit(vm: string, { mibPerSecond }: SetLimit): void {
  if (mibPerSecond === undefined || mibPerSecond === null || (Number.isFinite(mibPerSecond) && mibPerSecond > 0))
    return;
  throw failure('WrongStage', {
    what: `The limit for ${vm} is not a number of MiB per second above 0.`,
    next: `give one, or hold the migration with \`surefire pause ${vm}\`.`,
  });
}

/** Running transfers ask for it; nothing is stopped and begun again for its sake. */
function setLimit(migration: Migration, { mibPerSecond, ...word }: SetLimit): void {
  migration.set({ limit: mibPerSecond ? { mibPerSecond, operator: word.operator, at: now() } : undefined });
  migration.note(mibPerSecond ? `Limited to ${mibPerSecond} MiB/s.` : 'No limit of its own any more.', word);
}
