/**
 * The add-on's self-test ran into its limit on a busy host, and instead of a host without vsock there was no agent: the socket that it had
 * closed told its error to nobody.
 */
import { closeSync } from 'node:fs';
import { expect, test } from 'vitest';
import { selfTest } from '../../native/self-test.ts';
import { describeNative } from '../support/native.ts';

const LIMIT_MS = 100;

describeNative('a self-test that gets no answer', (api) => {
  test('says so, and ends nothing else', async () => {
    const others: number[] = [];
    const socketpair = (): [number, number] => {
      const [near, itsPeer] = api.socketpair();
      const [far, anotherPeer] = api.socketpair();
      others.push(itsPeer, anotherPeer);
      return [near, far];
    };
    const failure = selfTest({ ...api, socketpair }, LIMIT_MS);
    await expect(failure).rejects.toMatchObject({ code: 'ERR_NATIVE_SELF_TEST', cause: { name: 'AbortError' } });
    for (const fd of others) closeSync(fd);
  });
});
