import { setTimeout as setTimeoutAsync } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { Actuator } from '../../hub/rollout/actuator.ts';
import { HostsReturn } from '../../hub/rollout/hosts-return.ts';
import { HostCommands } from '../../hub/rollout/on-host/host-commands.ts';
import { FairleadError } from '../../shared/errors.ts';
import { FakeClock } from '../support/fake-clock.ts';

const SETTLE_MS = 10_000;

function returning() {
  const clock = new FakeClock();
  clock.advance(500);
  return { clock, hosts: new HostsReturn(clock, SETTLE_MS) };
}

it('time stands still until hosts have had their time to come back to a hub, and then goes on', () => {
  const { clock, hosts } = returning();
  hosts.expect(['a', 'b']);
  hosts.connected('a');
  clock.advance(SETTLE_MS - 1);
  expect([hosts.isOver, hosts.now()]).toEqual([false, 500]);
  clock.advance(101);
  expect([hosts.isOver, hosts.now()]).toEqual([true, 600]);
  hosts.connected('b');
  clock.advance(1);
  expect([hosts.isOver, hosts.now()]).toEqual([true, 601]);
});

it('time goes on as soon as all known hosts are back, and at once where there are none', () => {
  const { clock, hosts } = returning();
  hosts.expect(['a', 'b']);
  clock.advance(1000);
  hosts.connected('b');
  hosts.connected('a');
  expect([hosts.isOver, hosts.now()]).toEqual([true, 500]);
  clock.advance(7);
  expect(hosts.now()).toBe(507);

  const none = returning().hosts;
  none.expect([]);
  expect(none.isOver).toBe(true);
});

it('time stands still for longer while further hosts come, but not for hosts that come and go for ever', () => {
  const { clock, hosts } = returning();
  hosts.expect(['a', 'gone']);
  while (!hosts.isOver) {
    clock.advance(1000);
    hosts.connected('a');
  }
  expect(clock.now()).toBe(500 + 6 * SETTLE_MS);
  expect(hosts.now()).toBe(500);
});

it('a command for a host that comes back late does not lose the time of the host', async () => {
  const lines = { isUp: false, came: Promise.withResolvers<void>(), waits: 0 };
  let nowMs = 0;
  const actuator: Actuator = {
    isUp: () => lines.isUp,
    whenUp: async (_host, signal) => {
      lines.waits += 1;
      // The third wait is when it comes.
      if (lines.waits === 3) lines.came.resolve();
      const { promise, reject } = Promise.withResolvers<void>();
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      await Promise.race([promise, lines.came.promise]);
      lines.isUp = true;
    },
    command: async (host) => {
      if (!lines.isUp) throw new FairleadError('HOST_UNREACHABLE', `host ${host} has no line`);
      return 'done';
    },
    ask: () => Promise.reject(new Error('not asked')),
    probe: () => Promise.reject(new Error('not probed')),
    webhook: () => Promise.reject(new Error('no webhook')),
  };
  const options = { actuator, host: 'h1', name: ['r1', 'undo', 'h1', 1], begunAtMs: 0, actor: 'rollout r1' };
  const commandsOf = () =>
    new HostCommands({
      ...options,
      fence: { scope: 'rollout/r1', epoch: 1 },
      deadline: 20,
      now: () => nowMs,
      signal: new AbortController().signal,
      sleep: () => setTimeoutAsync(0),
    });
  expect(await commandsOf().run('stop', 'vm.stop', { vm: 'web' })).toBe('done');
  expect(lines.waits).toBe(3);

  Object.assign(lines, { isUp: false, waits: -100, came: Promise.withResolvers<void>() });
  const late = commandsOf().run('stop', 'vm.stop', { vm: 'web' });
  nowMs = 20;
  await expect(late).rejects.toMatchObject({ code: expect.stringMatching(/HOST_UNREACHABLE|TIMEOUT/u) });
});
