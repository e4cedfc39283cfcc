/** Weakness 20: following a log, or a long save of a VM, was cut by the HTTP server's limit of a minute on every request. */
import { expect, test } from 'vitest';
import { PeerPair } from '../support/peer-pair.ts';

const DAY_MS = 24 * 3_600_000;

test('a call that follows something goes on for a day, and hears what comes then', async () => {
  const heard: unknown[] = [];
  let report: ((value: unknown) => void) | undefined;
  const end = Promise.withResolvers<string>();
  const pair = new PeerPair({
    callee: {
      onRequest: async (_method, _params, { progress }) => {
        report = progress;
        return end.promise;
      },
    },
  });
  const following = pair.caller.call('vm.events', { follow: true }, { timeoutMs: 0, onProgress: (value) => heard.push(value) });
  await pair.settle();
  pair.clock.advance(DAY_MS);
  report?.('after a day');
  await pair.settle();
  expect(heard).toEqual(['after a day']);
  end.resolve('end');
  await pair.settle();
  expect(await following).toBe('end');
});

test('a call has the time that its caller gives it, and no less', async () => {
  const saved = Promise.withResolvers<string>();
  const pair = new PeerPair({ callee: { onRequest: () => saved.promise } });
  const saving = pair.caller.call('vm.stop', { vm: 'web' }, { timeoutMs: DAY_MS });
  await pair.settle();
  pair.clock.advance(DAY_MS / 2);
  saved.resolve('saved');
  await pair.settle();
  expect(await saving).toBe('saved');
});
