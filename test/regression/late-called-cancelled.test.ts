/**
 * A call whose time was over ended with CANCELLED, which is what its caller did not do, where the deadline of the line was heard before the
 * VM's own; and QMP's deadline was told with a dozen digits.
 */
import { expect, test } from 'vitest';
import { commandTimedOut } from '../../agent/qmp/errors.ts';
import { Deadline } from '../../agent/vm/deadline.ts';
import { FairleadError } from '../../shared/errors.ts';

test.each([
  { of: new FairleadError('TIMEOUT', 'vm.pause did not end within its deadline'), code: 'TIMEOUT' },
  { of: new FairleadError('CANCELLED', 'request 7 was cancelled by its caller'), code: 'CANCELLED' },
  { of: undefined, code: 'CANCELLED' },
])('a call that is ended by a signal of $of ends with $code', ({ of, code }) => {
  const caller = new AbortController();
  using before = new Deadline('pausing VM web', { signal: caller.signal, timeoutMs: 60_000 });
  caller.abort(of);
  using after = new Deadline('pausing VM web', { signal: caller.signal, timeoutMs: 60_000 });
  expect(before.signal.reason).toMatchObject({ code });
  expect(after.signal.reason).toMatchObject({ code });
});

test('a deadline is told in whole milliseconds', () => {
  const facts = { command: 'stop', monitor: '/run/web/qmp.sock', sent: true };
  expect(commandTimedOut(facts, 1796.521732000001).message).toContain('within 1797 ms');
});
