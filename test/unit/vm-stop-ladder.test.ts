import { describe, expect, test } from 'vitest';
import { descend, type EndedBy, type LadderTarget, type LadderTimes } from '../../agent/vm/stop-ladder.ts';

const TIMES: LadderTimes = { pressEveryMs: 5, quitMs: 10, sigtermMs: 10, sigkillMs: 20 };

/** A QEMU that ends by one rung and shrugs at those before it. */
function stubborn(endsBy: EndedBy | 'never', presses = 1): LadderTarget & { readonly heard: string[] } {
  const { promise: exited, resolve } = Promise.withResolvers<void>();
  const heard: string[] = [];
  return {
    vm: 'web',
    heard,
    exited,
    signal(name) {
      heard.push(name);
      if (name.toLowerCase() === endsBy) resolve();
    },
    async execute(command) {
      heard.push(command);
      if (command === 'quit' && endsBy === 'quit') resolve();
      if (command === 'system_powerdown' && endsBy === 'guest' && heard.length === presses) resolve();
      throw new Error('the connection is gone');
    },
  };
}

async function stop(target: LadderTarget, { graceMs = 10, signal = new AbortController().signal } = {}) {
  const rungs: EndedBy[] = [];
  const endedBy = await descend(target, { graceMs, times: TIMES, signal, onRung: (rung) => void rungs.push(rung) });
  return { endedBy, rungs };
}

describe('the stop ladder', () => {
  test.each([
    ['guest', ['guest']],
    ['quit', ['guest', 'quit']],
    ['sigterm', ['guest', 'quit', 'sigterm']],
    ['sigkill', ['guest', 'quit', 'sigterm', 'sigkill']],
  ] as const)('ends at %s when nothing before it helps', async (endsBy, rungs) => {
    expect(await stop(stubborn(endsBy))).toEqual({ endedBy: endsBy, rungs });
  });

  test('presses the power button again while the guest has its grace', async () => {
    const target = stubborn('guest', 3);
    expect(await stop(target, { graceMs: 60_000 })).toEqual({ endedBy: 'guest', rungs: ['guest'] });
    expect(target.heard).toEqual(['system_powerdown', 'system_powerdown', 'system_powerdown']);
  });

  test('begins with quit where there is no grace', async () => {
    const target = stubborn('quit');
    expect(await stop(target, { graceMs: 0 })).toEqual({ endedBy: 'quit', rungs: ['quit'] });
    expect(target.heard).toEqual(['quit']);
  });

  test('says so when even SIGKILL does not end it', async () => {
    await expect(stop(stubborn('never'))).rejects.toMatchObject({
      code: 'PROCESS_FAILED',
      message: 'QEMU of VM web is still there 20 ms after SIGKILL: it hangs in the kernel, most likely on storage',
    });
  });

  test('stands still where it is when its caller gives up', async () => {
    const controller = new AbortController();
    const target = { ...stubborn('never'), execute: async () => controller.abort(new Error('enough')) };
    await expect(stop(target, { graceMs: 60_000, signal: controller.signal })).rejects.toThrowError('enough');
    expect(target.heard).toEqual([]);
  });

  test('asks the agent in the guest first, and presses the button where that does not hear', async () => {
    const deaf = { ...stubborn('guest', 2), shutdownGuest: async () => Promise.reject(new Error('no agent')) };
    deaf.heard.push('agent');
    expect(await stop(deaf, { graceMs: 60_000 })).toEqual({ endedBy: 'guest', rungs: ['guest'] });
    expect(deaf.heard).toEqual(['agent', 'system_powerdown']);

    const { promise: exited, resolve } = Promise.withResolvers<void>();
    const hearing = { ...stubborn('never'), exited, shutdownGuest: async () => resolve() };
    expect(await stop(hearing, { graceMs: 60_000 })).toEqual({ endedBy: 'guest', rungs: ['guest'] });
    expect(hearing.heard).toEqual([]);
  });

  test('tries a rung only when it has been noted', async () => {
    const target = stubborn('quit');
    const noted: string[] = [];
    const onRung = async (rung: EndedBy): Promise<void> => {
      await new Promise((resolve) => setImmediate(resolve));
      noted.push(`${rung} before ${target.heard.length}`);
    };
    const { signal } = new AbortController();
    await descend(target, { graceMs: 0, times: TIMES, signal, onRung });
    expect(noted).toEqual(['quit before 0']);
  });
});
