// Exit 0 when node_modules holds what package-lock.json says, by npm's own record of what it installed.
import { readFileSync } from 'node:fs';

const packagesOf = (file) => JSON.parse(readFileSync(file, 'utf8')).packages;
const wanted = packagesOf('package-lock.json');
const present = packagesOf('node_modules/.package-lock.json');
// Optional packages are for other systems too; npm leaves those out.
const differs = Object.entries(wanted).some(
  ([path, { optional, version }]) => path !== '' && present[path]?.version !== version && !(optional && !present[path]),
);
process.exit(differs ? 1 : 0);
