import { formatDuration } from '../../shared/index.js';
import { keepRunning } from './keep-running.js';
import { startLogged } from './processes.js';

/** Above the worker's own limit of 90 s, after which it gives up waiting for its activities. */
const STOP_MS = 110_000;

export interface Supervised {
  pid(): number;
  /** Ends it for good. */
  stop(): Promise<void>;
}

export interface SuperviseOptions {
  /** As people read it, such as `orchestrator worker`. */
  name: string;
  command: readonly string[];
  env: NodeJS.ProcessEnv;
  logFile: string;
  /** Told of every end that nobody asked for. */
  say: (line: string) => void;
  /** For tests. */
  firstDelayMs?: number;
}

/** Keeps one process running, and says of every end what its last words were. */
export function supervise({ name, command, env, logFile, say, firstDelayMs }: SuperviseOptions): Supervised {
  const start = () => {
    const child = startLogged(command, logFile, env);
    return { ...child, stop: () => child.stop(STOP_MS) };
  };
  const { now, stop } = keepRunning(start(), {
    startAgain: start,
    describe({ ended, how: { code, signal }, livedMs, delayMs }) {
      const how = signal === null ? `with code ${code}` : `by ${signal}`;
      // A crash ends with a stack and the version of Node; the error itself stands further up.
      const lines = ended.lastLines(20);
      const last = (lines.findLast((line) => /^\w*(Error|Failure)\b/.test(line)) ?? lines.at(-1))?.slice(0, 300);
      return [
        `The ${name} ended ${how} after ${formatDuration(livedMs / 1000)}${last === undefined ? '.' : `; it said: ${last}`}`,
        `It is started again in ${formatDuration(delayMs / 1000)}; its log is ${logFile}.`,
      ].join('\n');
    },
    say,
    firstDelayMs,
  });
  return { pid: () => now().pid, stop };
}
