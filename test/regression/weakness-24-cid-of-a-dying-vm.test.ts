/**
 * Weakness 24: CIDs were computed from names, twice the same for some, and one whose VM was still dying made the next start fail. The
 * kernel's own answers: test/rig/host.test.ts.
 */
import { expect, test } from 'vitest';
import { afVsockTransport } from '../../agent/streams/af-vsock.ts';
import type { NativeApi } from '../../native/index.ts';
import { silent } from '../support/vm.ts';

/** The kernel's rule: the first CID from `from` on that no open descriptor has. */
function kernel(busy: Set<number>): NativeApi {
  const api = {
    reserveCid: (_device: string | undefined, from: number) => {
      let cid = from;
      while (busy.has(cid)) cid++;
      busy.add(cid);
      return { fd: 1000 + cid, cid };
    },
    closeFd: () => {},
  };
  // SAFETY: reserving and closing is all that making a device does.
  return api as unknown as NativeApi;
}

test('a CID is reserved before QEMU is started, and one that anybody has is passed over', async () => {
  const busy = new Set([3, 4, 6]);
  const transport = afVsockTransport({ api: kernel(busy), logger: silent });
  const first = await transport.prepare({ vm: 'one', runDir: '/r' });
  const second = await transport.prepare({ vm: 'two', runDir: '/r' });
  expect([first.cid, second.cid]).toEqual([5, 7]);
  expect(first.vhostFd, 'QEMU gets the descriptor that holds the CID').toBe(1005);
});

test('the CID of a VM that has just ended is not the next one that is asked for', async () => {
  const busy = new Set<number>();
  const transport = afVsockTransport({ api: kernel(busy), logger: silent });
  const first = await transport.prepare({ vm: 'web', runDir: '/r' });
  await first[Symbol.asyncDispose]();
  busy.delete(first.cid);
  const second = await transport.prepare({ vm: 'web', runDir: '/r' });
  expect(second.cid).not.toBe(first.cid);
});
