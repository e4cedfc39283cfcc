/** What a running `fairlead up` says of itself: to whoever started it, and in its data directory to `fairlead down`. */
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { identityOf, isAlive, type ProcessIdentity } from '../agent/process-identity.ts';
import { writeFileAtomic } from '../agent/vm/atomic-file.ts';
import { FairleadError } from '../shared/errors.ts';
import { parseWith } from '../shared/protocol/parse-with.ts';

const STATE_FILE = 'up.json';

/** Told once the agent is connected. */
export const UpReady = v.strictObject({
  hubUrl: v.string(),
  /** `off`, `unix:/path` or an address. */
  agentUrl: v.string(),
  host: v.string(),
  contextFile: v.string(),
  pid: v.pipe(v.number(), v.integer(), v.minValue(1)),
});
export type UpReady = v.InferOutput<typeof UpReady>;

const UpState = v.strictObject({ ...UpReady.entries, startTime: v.string() });

export async function writeUpState(dataDir: string, ready: UpReady): Promise<void> {
  const startTime = identityOf(ready.pid)?.startTime ?? '';
  await writeFileAtomic(join(dataDir, STATE_FILE), `${JSON.stringify({ ...ready, startTime })}\n`);
}

/** @throws CONFLICT while an `up` runs on that directory; one that died without a word is none. */
export async function refuseSecondUp(dataDir: string): Promise<void> {
  let up: ProcessIdentity;
  try {
    up = await readUpState(dataDir);
  } catch {
    // No state, or one that cannot be read: the hub's lock on its store has the last word.
    return;
  }
  if (isAlive(up)) {
    throw new FairleadError(
      'CONFLICT',
      `\`fairlead up\` runs on ${dataDir} already, as process ${up.pid}: end it with \`fairlead down\`, or choose another --data-dir`,
    );
  }
}

export async function removeUpState(dataDir: string): Promise<void> {
  await rm(join(dataDir, STATE_FILE), { force: true });
}

/** @throws NOT_FOUND when nothing was started on that directory, or it has ended in order. */
export async function readUpState(dataDir: string): Promise<ProcessIdentity> {
  let text: string;
  try {
    text = await readFile(join(dataDir, STATE_FILE), 'utf8');
  } catch (cause) {
    throw new FairleadError('NOT_FOUND', `no \`fairlead up\` is running on ${dataDir}`, { cause });
  }
  const { pid, startTime } = parseWith(UpState, JSON.parse(text), STATE_FILE);
  return { pid, startTime };
}
