import { parseArgs } from 'node:util';
import { startServer } from './server.js';

const USAGE = 'Usage: main.js --state-dir DIR [--json] [--port N] [--admin-port N]';

/** The pool as a process: one line on stdout when ready; ends with SIGTERM, SIGINT, or its parent's end of stdin. */
const { values } = parseArgs({
  options: {
    'state-dir': { type: 'string' },
    json: { type: 'boolean', default: false },
    port: { type: 'string', default: '0' },
    'admin-port': { type: 'string', default: '0' },
  },
});
const stateDir = values['state-dir'];
if (stateDir === undefined) {
  process.stderr.write(`${USAGE}\n`);
  process.exit(2);
}

const server = await startServer({
  stateDir,
  port: Number(values.port),
  adminPort: Number(values['admin-port']),
});

let isEnding = false;
const end = (): void => {
  if (isEnding) return;
  isEnding = true;
  void server.stop().then(() => process.exit(0));
};
process.on('SIGTERM', end);
process.on('SIGINT', end);
process.stdin.on('end', end);
process.stdin.on('error', end);
process.stdin.resume();

const ready = { ...server.address, pid: process.pid };
process.stdout.write(
  values.json ? `${JSON.stringify(ready)}\n` : `XCP-ng pool at ${ready.url}, state in ${stateDir}\n`,
);
