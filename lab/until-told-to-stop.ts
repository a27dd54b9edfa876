/**
 * Resolves with the reason when this process should end: SIGINT, SIGTERM, SIGHUP, or, started by npm, the end of npm
 * (a killed npm tells nobody). A second signal meanwhile changes nothing, so that the stopping is finished.
 */
export function untilToldToStop(): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => resolve(signal));
    if (process.env['npm_lifecycle_event'] === undefined) return;
    const parent = process.ppid;
    const watch = setInterval(() => {
      if (process.ppid === parent) return;
      clearInterval(watch);
      resolve('npm has ended');
    }, 500);
    watch.unref();
  });
}
