import { formatDuration } from '../../shared/index.js';
import { startLogged, type LoggedProcess } from './processes.js';

/** Worth a fresh start of the back-off: it had settled. */
const STEADY_MS = 60_000;
const FIRST_DELAY_MS = 1000;
const LONGEST_DELAY_MS = 30_000;
/** Above the worker's own limit of 90 s, after which it gives up waiting for its activities. */
const STOP_MS = 110_000;

export interface Supervised {
  /** As people read it, such as `orchestrator worker`. */
  name: string;
  pid(): number;
  /** Ends it for good. */
  stop(): Promise<void>;
}

export interface SuperviseOptions {
  name: string;
  command: readonly string[];
  env: NodeJS.ProcessEnv;
  logFile: string;
  /** Told of every end that nobody asked for. */
  say: (line: string) => void;
  /** For tests. */
  firstDelayMs?: number;
}

/** Keeps one process running: starts it again when it dies, waiting longer each time up to half a minute. */
export function supervise({
  name,
  command,
  env,
  logFile,
  say,
  firstDelayMs = FIRST_DELAY_MS,
}: SuperviseOptions): Supervised {
  let stopping = false;
  let delayMs = firstDelayMs;
  let timer: NodeJS.Timeout | undefined;
  let running: LoggedProcess = start();

  function start(): LoggedProcess {
    const startedAt = Date.now();
    const child = startLogged(command, logFile, env);
    void child.ended.then(({ code, signal }) => {
      if (stopping) return;
      const livedMs = Date.now() - startedAt;
      if (livedMs > STEADY_MS) delayMs = firstDelayMs;
      const how = signal === null ? `with code ${code}` : `by ${signal}`;
      // A crash ends with a stack and the version of Node; the error itself stands further up.
      const lines = child.lastLines(20);
      const last = (lines.findLast((line) => /^\w*(Error|Failure)\b/.test(line)) ?? lines.at(-1))?.slice(0, 300);
      say(
        [
          `The ${name} ended ${how} after ${formatDuration(livedMs / 1000)}${last === undefined ? '.' : `; it said: ${last}`}`,
          `It is started again in ${formatDuration(delayMs / 1000)}; its log is ${logFile}.`,
        ].join('\n'),
      );
      timer = setTimeout(() => (running = start()), delayMs);
      delayMs = Math.min(delayMs * 2, LONGEST_DELAY_MS);
    });
    return child;
  }

  return {
    name,
    pid: () => running.pid,
    async stop() {
      stopping = true;
      clearTimeout(timer);
      await running.stop(STOP_MS);
    },
  };
}
