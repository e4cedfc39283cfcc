import { expect, test } from 'vitest';
import { createApi } from '../../native/api.ts';
import type { NativeApi } from '../../native/index.ts';
import { openFds, thrown } from '../support/inspect.ts';
import { describeNative } from '../support/native.ts';

const NOT_NUMBERS: readonly unknown[] = [undefined, null, '3', {}, [], true, 3n, Symbol('3'), () => 3];
const BAD_NUMBERS: readonly unknown[] = [NaN, Infinity, -Infinity, 0.5, -1, 2 ** 32, 2 ** 53, 2 ** 64, -(2 ** 63)];
const NOT_TEXT: readonly unknown[] = [undefined, null, 1, {}, [], '', 'with\0nul'];
const NOT_BYTES: readonly unknown[] = [undefined, null, 'x', [1], {}, new ArrayBuffer(1), new Uint16Array(1), new Uint8Array(0)];
const NOT_FDS: readonly unknown[] = [
  undefined,
  null,
  1,
  'x',
  {},
  [-1],
  ['1'],
  [0.5],
  [2 ** 31],
  Array.from({ length: 254 }, () => 0),
];
const numbers = [...NOT_NUMBERS, ...BAD_NUMBERS];

/** Each operation with good arguments; the values that each place must refuse. No good value is ever reached by the kernel. */
const OPERATIONS: Partial<Record<keyof NativeApi, readonly (readonly [good: unknown, bad: readonly unknown[]])[]>> = {
  vsockPeer: [[0, numbers]],
  vsockLocal: [[0, numbers]],
  swapInto: [
    [1_000_000, numbers],
    [1_000_000, numbers],
  ],
  closeFd: [[1_000_000, numbers]],
  sendFds: [
    [1_000_000, numbers],
    [[], NOT_FDS],
    [new Uint8Array(1), NOT_BYTES],
  ],
  recvFds: [
    [1_000_000, numbers],
    [1, [...numbers, 0, 2 ** 21]],
  ],
  unixListen: [
    ['/nonexistent/socket', NOT_TEXT],
    [1, [...numbers, 0]],
  ],
  pidfdOpen: [[1, [...numbers, 0]]],
  pidfdSignal: [
    [1_000_000, numbers],
    [0, [...numbers, 65]],
  ],
  pidfdWait: [[1_000_000, numbers]],
  pidfdClose: [[1_000_000, numbers]],
  setNotsentLowat: [
    [1_000_000, numbers],
    [1, [...numbers, 0]],
  ],
  getNotsent: [[1_000_000, numbers]],
  getUntaken: [[1_000_000, numbers]],
  liftPeerInput: [
    [1_000_000, numbers],
    [1, [...numbers, 0]],
    [1, [...numbers, 0, 2 ** 25]],
    [0, [...numbers, 1001]],
  ],
  sdNotify: [
    ['READY=1', NOT_TEXT],
    ['/nonexistent/notify', NOT_TEXT],
  ],
  // Only undefined may stand in the first place of reserveCid: it means any.
  reserveCid: [[3, [...numbers.slice(1), 0, 1, 2, 0xffff_ffff]]],
};

describeNative('a wrong argument', (api) => {
  for (const [name, places] of Object.entries(OPERATIONS)) {
    test(`of ${name} is a TypeError and does nothing`, async () => {
      // SAFETY: the very purpose is to pass what the types forbid.
      const operation = Reflect.get(api, name) as (...args: unknown[]) => unknown;
      const before = openFds();
      for (const [place, [, bad]] of places.entries()) {
        for (const value of bad) {
          const args = places.map(([good], i) => (i === place ? value : good));
          const call = async (): Promise<unknown> => operation(...args);
          await expect(call()).rejects.toMatchObject({ name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' });
        }
      }
      expect([...openFds().keys()]).toEqual([...before.keys()]);
    });
  }

  test('of vsockConnect rejects before a socket is made', async () => {
    const good = { cid: 3, port: 1, timeoutMs: 1_000, bufferBytes: 0 };
    for (const key of ['cid', 'port', 'timeoutMs', 'bufferBytes'] as const) {
      // Every CID, port and size of 32 bits is for the kernel to judge; `any` is none to connect to.
      for (const value of numbers.filter((bad) => bad !== undefined || key !== 'bufferBytes')) {
        const options = { ...good, [key]: value };
        await expect(api.vsockConnect(options)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
      }
    }
    for (const bad of [{ cid: 0xffff_ffff }, { port: 0xffff_ffff }, { timeoutMs: 0 }, { timeoutMs: 86_400_001 }]) {
      await expect(api.vsockConnect({ ...good, ...bad })).rejects.toThrow(`${Object.keys(bad)[0]} must be a whole number from`);
    }
  });

  test('of vsockListen throws before a socket is made', () => {
    const good = { cid: 3, port: 1, backlog: 1, bufferBytes: 0 };
    for (const key of ['cid', 'port', 'backlog', 'bufferBytes'] as const) {
      for (const value of BAD_NUMBERS) {
        const options = { ...good, [key]: value };
        expect(thrown(() => api.vsockListen(options))).toMatchObject({ name: 'TypeError' });
      }
    }
  });
});

describeNative('vsockConnect', (api) => {
  const options = { cid: 3, port: 1, timeoutMs: 1_000 };

  test('is not begun with a signal that is aborted', async () => {
    const signal = AbortSignal.abort('no longer wanted');
    await expect(api.vsockConnect({ ...options, signal })).rejects.toMatchObject({
      code: 'ECANCELED',
      cause: 'no longer wanted',
      message: 'could not connect to vsock 3:1: ECANCELED (operation canceled); the caller gave up',
    });
  });

  test('closes a connection that was made in the moment of the abort', async () => {
    const closed: number[] = [];
    const { promise, resolve } = Promise.withResolvers<number>();
    // SAFETY: a stand-in for the module, with what this path uses.
    const binding = {
      vsockConnect: () => ({ id: 1, promise }),
      cancelConnect: () => false,
      closeFd: (fd: number) => closed.push(fd),
    } as unknown as Parameters<typeof createApi>[0];
    const controller = new AbortController();
    const connecting = createApi(binding).vsockConnect({ ...options, signal: controller.signal });
    resolve(42);
    controller.abort();
    await expect(connecting).rejects.toMatchObject({ code: 'ECANCELED' });
    expect(closed).toEqual([42]);
  });
});
