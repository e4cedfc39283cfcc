/**
 * Changing the agent of a host. The host itself tries the release, and leaves it where it does not prove itself; taking a step back is the same with the
 * release that was recorded, which is still unpacked there.
 */
import * as v from 'valibot';
import { FairleadError } from '../../../shared/errors.ts';
import { parseWith } from '../../../shared/protocol/parse-with.ts';
import { ReleaseName } from '../../../shared/protocol/release.ts';
import type { Step } from '../../../shared/protocol/rollout-spec.ts';
import type { HostCommands } from './host-commands.ts';

type AgentStep = Extract<Step, { kind: 'agent' }>;

/** As much of the answer as is needed; a newer agent may say more. */
const Told = v.object({ updatable: v.boolean(), release: ReleaseName });
const Recorded = v.strictObject({ release: ReleaseName });

/** @throws FairleadError UNSUPPORTED for a host whose agent nobody could change: before anything has been done to it */
export async function recordAgent(commands: HostCommands): Promise<v.InferOutput<typeof Recorded>> {
  const { updatable, release } = parseWith(Told, await commands.ask('agent.release', {}), 'agent.release', 'PROTOCOL_ERROR');
  if (updatable) return { release };
  throw new FairleadError(
    'UNSUPPORTED',
    `the agent of host ${commands.host} was not begun by \`fairlead launch\`, so it cannot be changed`,
  );
}

export async function changeAgent(
  { release, signature, healthTimeoutMs }: AgentStep,
  place: string,
  commands: HostCommands,
): Promise<void> {
  const params = { release, healthTimeoutMs, ...(signature === undefined ? {} : { signature }) };
  await commands.run(`${place} update`, 'agent.update', params);
}

export async function restoreAgent(
  { healthTimeoutMs }: AgentStep,
  place: string,
  previous: unknown,
  commands: HostCommands,
): Promise<void> {
  const { release } = parseWith(Recorded, previous, 'previous', 'INTERNAL');
  await commands.run(`${place} update`, 'agent.update', { release, healthTimeoutMs });
}
