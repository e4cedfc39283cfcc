/**
 * Compiles the native add-on when its sources or the Node that it is built for have changed.
 *
 * The headers come from the pinned Node's package or from the running Node's own folder; nothing is downloaded. A machine that cannot
 * compile it still works, without AF_VSOCK: that is a warning here and a capability with a reason in the product.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { hasProgram, PINNED_NODE_DIR, PROJECT_DIR, projectNode, run, say, tail } from './step.mjs';

const NATIVE_DIR = join(PROJECT_DIR, 'native');
const STAMP = join(NATIVE_DIR, 'build', 'setup-stamp');

export async function buildNativeAddon() {
  const headers = [PINNED_NODE_DIR, dirname(dirname(process.execPath))].find((folder) =>
    existsSync(join(folder, 'include', 'node', 'node_api.h')),
  );
  const lacking = ['g++', 'make', 'python3'].filter((program) => !hasProgram(program));
  const stamp = sourcesHash(headers);
  if (existsSync(STAMP) && readFileSync(STAMP, 'utf8') === stamp) return;
  if (lacking.length > 0)
    return say(`warning: the native add-on was not built, since ${lacking.join(' and ')} is missing: no AF_VSOCK`);
  if (headers === undefined) return say('warning: the native add-on was not built, since there are no Node headers: no AF_VSOCK');

  say('compiling the native add-on');
  const nodeGyp = join(PROJECT_DIR, 'node_modules', 'node-gyp', 'bin', 'node-gyp.js');
  const args = [nodeGyp, 'rebuild', '--directory', NATIVE_DIR, '--nodedir', headers, '--loglevel=error'];
  // Make and node-gyp's own `node -p` must find the Node that is built for; npm's configuration may name other headers.
  const env = { PATH: `${dirname(projectNode())}:${process.env.PATH}`, npm_config_nodedir: headers };
  const { ok, output } = await run(projectNode(), args, { env });
  if (ok) writeFileSync(STAMP, stamp);
  else say(`warning: the native add-on does not compile here, so there is no AF_VSOCK:\n${tail(output)}`);
}

function sourcesHash(headers) {
  const hash = createHash('sha256').update(`${process.arch} ${headers}\n`);
  const sources = readdirSync(join(NATIVE_DIR, 'src')).map((name) => join('src', name));
  for (const name of ['binding.gyp', ...sources.sort()]) hash.update(`${name}\n`).update(readFileSync(join(NATIVE_DIR, name)));
  for (const folder of [headers, join(PROJECT_DIR, 'node_modules', 'node-addon-api')]) hash.update(versionOf(folder));
  return hash.digest('hex');
}

function versionOf(folder) {
  try {
    return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).version;
  } catch {
    return process.versions.node; // not an npm package: the running Node's own prefix
  }
}
