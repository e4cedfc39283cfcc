/** Events over lines that break: the other end is a log, and a line that does as the test says. */
import { describe, expect, test } from 'vitest';
import { followEvents } from '../../client/follow-events.ts';
import { FairleadError } from '../../shared/errors.ts';
import type { ErrorCode } from '../../shared/protocol/error-table.ts';
import type { VmEvent } from '../../shared/protocol/vm-events.ts';

type Asked = Parameters<Parameters<typeof followEvents>[0]>[0];

const created = (seq: number): VmEvent => ({
  epoch: 'e1',
  seq,
  time: '2026-01-01T00:00:00.000Z',
  vm: 'web',
  type: 'vm.created',
  state: 'created',
  data: { generation: 1 },
});

/** A host with five events, whose lines break as `breaks` says: after so many events each, with that error; then it is followed for good. */
function host(breaks: readonly { readonly after: number; readonly code: ErrorCode }[], outlivesLines = true) {
  const asked: Asked[] = [];
  const got: number[] = [];
  const over = new AbortController();
  const log = [1, 2, 3, 4, 5].map(created);
  let line = 0;
  const following = followEvents(
    async (params, { onProgress, signal }) => {
      asked.push(params);
      if (params.follow !== true) return { epoch: 'e1', events: [], missed: 0, lastSeq: 2 };
      const fault = breaks[line++];
      const later = log.filter(({ seq }) => seq > (params.since ?? 0));
      for (const event of later.slice(0, fault?.after)) onProgress?.(event);
      if (fault !== undefined) throw new FairleadError(fault.code, 'as the test says');
      over.abort();
      signal.throwIfAborted();
      return undefined;
    },
    { vm: 'web' },
    { signal: over.signal, onEvent: ({ seq }) => void got.push(seq), outlivesLines },
  );
  return { asked, got, following };
}

describe('following events', () => {
  test('goes on where the last line ended, each event once', async () => {
    const { asked, got, following } = host([
      { after: 1, code: 'INTERRUPTED' },
      { after: 0, code: 'HOST_UNREACHABLE' },
      { after: 1, code: 'INTERRUPTED' },
    ]);
    await following;
    expect(got).toEqual([3, 4, 5]);
    expect(asked.slice(1).map(({ since, epoch }) => [since, epoch])).toEqual([
      [2, 'e1'],
      [3, 'e1'],
      [3, 'e1'],
      [4, 'e1'],
    ]);
  });

  test('misses none that came before the first event was seen', async () => {
    const { asked, got, following } = host([{ after: 0, code: 'INTERRUPTED' }]);
    await following;
    expect([asked[0]?.since, got]).toEqual([Number.MAX_SAFE_INTEGER, [3, 4, 5]]);
  });

  test.each([
    ['what no other line cures', 'NOT_FOUND', true],
    ['a break that no other line follows', 'INTERRUPTED', false],
  ] as const)('rejects with %s', async (_, code, outlivesLines) => {
    await expect(host([{ after: 1, code }], outlivesLines).following).rejects.toMatchObject({ code });
  });
});
