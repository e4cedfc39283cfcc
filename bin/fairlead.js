#!/usr/bin/env node
// The launcher: plain JavaScript that any Node can read. It finds a Node that is new enough, sees that a clone has its libraries, and
// hands over to the real entry:
// `dist/bin/fairlead.js` in an installed package, `bin/fairlead.ts` in a clone.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const OLDEST_NODE = [24, 15];

function isNewEnough(version) {
  const [major, minor] = version.split('.').map(Number);
  return major > OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor >= OLDEST_NODE[1]);
}

/** In a clone the sources run as they are; a package ships only `dist`. */
function entry() {
  const source = new URL('./fairlead.ts', import.meta.url);
  return existsSync(source) ? source : new URL('../dist/bin/fairlead.js', import.meta.url);
}

/** Runs this very file on the Node that set-up pinned in the clone; exit code and signals pass through. */
function rerunOnPinnedNode() {
  const pinned = fileURLToPath(new URL('../node_modules/.bin/node', import.meta.url));
  if (!existsSync(pinned)) {
    process.stderr.write(
      `fairlead needs Node ${OLDEST_NODE.join('.')} or later, and this is ${process.versions.node}; run \`npm run setup\` first\n`,
    );
    process.exit(1);
  }
  const child = spawn(pinned, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code ?? 1);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}

/** Any of the libraries that everything needs stands for all: set-up installs them together. */
function hasLibraries() {
  try {
    import.meta.resolve('valibot');
    return true;
  } catch {
    return false;
  }
}

if (!isNewEnough(process.versions.node)) rerunOnPinnedNode();
else if (hasLibraries()) await import(entry().href);
else {
  process.stderr.write('fairlead: the libraries of this clone are not installed; run `npm run setup` first\n');
  process.exitCode = 1;
}
