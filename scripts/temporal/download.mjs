// download.mjs FOLDER - fetches the Temporal CLI with the SDK's own downloader and prints the program's path.
// The downloader has no call of its own: it fetches what a development server is started from, so one is started, and
// stopped again. The last resort of get-temporal.sh; needs the Internet.
import { mkdir, readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { Runtime } from '@temporalio/worker';

const VERSION = 'v1.8.2';
const folder = resolve(process.argv[2]);
await mkdir(folder, { recursive: true });
const runtime = Runtime.instance();
try {
  const server = await runtime.createEphemeralServer({
    type: 'dev-server',
    exe: {
      type: 'cached-download',
      downloadDir: folder,
      version: VERSION,
      ttl: 3650 * 24 * 3600 * 1000,
      sdkName: 'surefire',
      sdkVersion: VERSION,
    },
    namespace: 'default',
    ip: '127.0.0.1',
    port: null,
    uiPort: null,
    dbFilename: null,
    ui: false,
    log: { format: 'json', level: 'error' },
    extraArgs: [],
  });
  await runtime.shutdownEphemeralServer(server);
  const program = (await readdir(folder)).find((name) => name.startsWith('temporal') && !name.includes('downloading'));
  if (program === undefined) throw new Error(`the downloader left no program in ${folder}`);
  console.log(join(folder, program));
} catch (error) {
  console.error(`The Temporal SDK's downloader failed: ${error.message}. It needs the Internet.`);
  process.exitCode = 1;
} finally {
  await runtime.shutdown();
}
