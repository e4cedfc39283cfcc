/** A VM with an idle policy that went to sleep after its change counted as unhealthy, and stopped the rollout over a fleet of such VMs. */
import { describe, expect, it } from 'vitest';
import type { Actuator } from '../../hub/rollout/actuator.ts';
import { checkHost } from '../../hub/rollout/on-host/checks.ts';
import { HostCommands } from '../../hub/rollout/on-host/host-commands.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import { RolloutSpec } from '../../shared/protocol/rollout-spec.ts';

const IDLE = { idle: { suspendAfterMs: 10_000 } };
const READY = { vsock: { readyPort: 1023 } };

async function answerOf(state: string, spec: object, ready = true): Promise<string> {
  const never = () => Promise.reject(new Error('not in this test'));
  const actuator: Actuator = {
    isUp: () => true,
    whenUp: never,
    command: never,
    ask: async () => ({ vms: [{ name: 'web', state, ready, labels: {}, spec }] }),
    probe: never,
    webhook: never,
  };
  const { signal } = new AbortController();
  const now = () => 0;
  const fence = { scope: 'rollout/r1', epoch: 1 };
  const about = { host: 'h1', name: ['r1'], begunAtMs: 0, actor: 'rollout r1', fence, deadline: 1000, sleep: never };
  const commands = new HostCommands({ actuator, now, signal, ...about });
  const previous = [{ vms: [{ name: 'web', ran: true, spec: {} }] }];
  const given = { selector: {}, steps: [{ kind: 'vm' }], health: { checks: [{ kind: 'vm-state' }] } };
  const { health } = parseWith(RolloutSpec, given, 'spec');
  return (await checkHost({ rollout: 'r1', rules: health, actuator, commands, previous, signal })).answer;
}

describe('the state of a VM after its change', () => {
  it('is as good asleep as awake where the VM sleeps by its own policy, and no better', async () => {
    const states = ['running', 'suspending', 'suspended', 'resuming', 'stopped', 'crashed', 'paused'];
    const healthy = async (spec: object, ready?: boolean) => {
      const answers = await Promise.all(states.map((state) => answerOf(state, spec, ready)));
      return states.filter((_, index) => answers[index] === 'success');
    };
    expect(await healthy(IDLE)).toEqual(['running', 'suspending', 'suspended', 'resuming']);
    expect(await healthy({})).toEqual(['running']);
    // One that was never ready is not so because it sleeps.
    expect(await healthy({ ...IDLE, ...READY }, false)).toEqual([]);
  });
});
