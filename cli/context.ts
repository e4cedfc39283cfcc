/**
 * Which hub to talk to and as whom: flag, else environment (`FAIRLEAD_HUB`, `FAIRLEAD_TOKEN`, `FAIRLEAD_CA`), else the context file that
 * `fairlead up` writes (`FAIRLEAD_CONTEXT`, or `$XDG_CONFIG_HOME/fairlead/context.json`). The file holds a token: mode 0600.
 */
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import * as v from 'valibot';
import { FairleadError } from '../shared/errors.ts';
import { parseWith } from '../shared/protocol/validate.ts';

const Url = v.pipe(
  v.string(),
  v.maxLength(2048),
  v.regex(/^(wss?|https?):\/\//, 'must start with http://, https://, ws:// or wss://'),
);

const ContextFile = v.strictObject({
  hub: Url,
  token: v.pipe(v.string(), v.minLength(1), v.maxLength(512)),
  /** File with the certificate that the hub's is checked against, where it is not signed by a known authority. */
  ca: v.optional(v.pipe(v.string(), v.maxLength(4096))),
});
export type HubContext = v.InferOutput<typeof ContextFile>;

export interface ContextFlags {
  readonly hub?: string | undefined;
  readonly token?: string | undefined;
  readonly ca?: string | undefined;
}

export type Environment = Readonly<Record<string, string | undefined>>;

export function contextPath(env: Environment): string {
  return (
    setIn(env, 'FAIRLEAD_CONTEXT') ??
    join(setIn(env, 'XDG_CONFIG_HOME') ?? join(homedir(), '.config'), 'fairlead', 'context.json')
  );
}

/** An empty variable counts as not set, as it does for hub and agent. */
function setIn(env: Environment, name: string): string | undefined {
  return env[name] === '' ? undefined : env[name];
}

/** @throws INVALID_PARAMS when no hub or no token is known, with the ways to give one. */
export async function resolveContext(flags: ContextFlags, env: Environment): Promise<HubContext> {
  const stored = await readContext(contextPath(env));
  const hub = flags.hub ?? setIn(env, 'FAIRLEAD_HUB') ?? stored?.hub;
  // A token belongs to one hub: the stored one is not sent to a hub that was named otherwise.
  const token = flags.token ?? setIn(env, 'FAIRLEAD_TOKEN') ?? (hub === stored?.hub ? stored?.token : undefined);
  if (hub === undefined) throw missing('no hub is known', '--hub URL or FAIRLEAD_HUB');
  if (token === undefined) throw missing(`no token for the hub ${hub} is known`, '--token TOKEN or FAIRLEAD_TOKEN');
  const ca = flags.ca ?? setIn(env, 'FAIRLEAD_CA') ?? (hub === stored?.hub ? stored?.ca : undefined);
  return parseWith(ContextFile, ca === undefined ? { hub, token } : { hub, token, ca }, 'context');
}

export async function writeContext(path: string, context: HubContext): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.${process.pid}.tmp`;
  await writeFile(temporary, `${JSON.stringify(context, null, 2)}\n`, { mode: 0o600 });
  await rename(temporary, path);
}

/** Removes the file if it still holds this context: another hub's stays. */
export async function removeContext(path: string, context: HubContext): Promise<void> {
  const stored = await readContext(path).catch(() => undefined);
  if (stored?.token === context.token) await rm(path, { force: true });
}

async function readContext(path: string): Promise<HubContext | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    // SAFETY: fs errors are ErrnoExceptions; any other has no code and is thrown on.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new FairleadError('INVALID_PARAMS', `could not read the context file ${path}`, { cause: error });
  }
  try {
    return parseWith(ContextFile, JSON.parse(text), path);
  } catch (error) {
    throw new FairleadError('INVALID_PARAMS', `the context file ${path} is damaged: remove it or run \`fairlead up\` again`, {
      cause: error,
    });
  }
}

function missing(what: string, how: string): FairleadError {
  return new FairleadError('INVALID_PARAMS', `${what}: give ${how}, or run \`fairlead up\` for a hub on this machine`);
}
