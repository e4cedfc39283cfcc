import { describe, expect, test } from 'vitest';
import { EventLog } from '../../agent/vm/events.ts';
import type { VmEvent } from '../../shared/protocol/vm-events.ts';

function logOf(vms: readonly string[], capacity?: number): EventLog {
  const log = new EventLog({ epoch: 'now', ...(capacity === undefined ? {} : { capacity }) });
  for (const vm of vms) append(log, vm);
  return log;
}

function append(log: EventLog, vm: string): VmEvent {
  return log.append({ vm, type: 'vm.started', state: 'running', data: { generation: 1 } });
}

const seqs = (events: readonly VmEvent[]) => events.map(({ seq }) => seq);

describe('the event log', () => {
  test('numbers events from 1 and says its epoch', () => {
    const { epoch, events, missed, lastSeq } = logOf(['a', 'b']).query({});
    expect({ epoch, seqs: seqs(events), missed, lastSeq }).toEqual({ epoch: 'now', seqs: [1, 2], missed: 0, lastSeq: 2 });
  });

  test('gives what came after a number, of one VM', () => {
    expect(seqs(logOf(['a', 'b', 'a', 'b']).query({ vm: 'b', since: 2 }).events)).toEqual([4]);
  });

  test('gives the oldest first and says where to go on when there are more', () => {
    const log = logOf(['a', 'a', 'a']);
    expect(log.query({ limit: 2 })).toMatchObject({ lastSeq: 2 });
    expect(seqs(log.query({ since: 2, limit: 2 }).events)).toEqual([3]);
  });

  test('counts what has left it', () => {
    const log = logOf(['a', 'a', 'a', 'a', 'a'], 2);
    expect(log.query({ since: 1 })).toMatchObject({ missed: 2, lastSeq: 5 });
    expect(log.query({ since: 3 })).toMatchObject({ missed: 0 });
  });

  test('takes a number of another epoch for 0', () => {
    expect(seqs(logOf(['a', 'a']).query({ since: 2, epoch: 'before' }).events)).toEqual([1, 2]);
  });

  test('lets a follower go on where it was, without a gap or a repeat', async () => {
    const log = logOf(['a', 'b', 'a']);
    const leave = new AbortController();
    const seen: number[] = [];
    for await (const event of log.follow({ since: 1, signal: leave.signal })) {
      seen.push(event.seq);
      if (seen.length < 5) append(log, 'c');
      else leave.abort();
    }
    expect(seen).toEqual([2, 3, 4, 5, 6]);
  });

  test('follows from the moment of the call, not of the first reading', async () => {
    const log = logOf(['a']);
    const leave = new AbortController();
    const following = log.follow({ signal: leave.signal });
    append(log, 'b');
    for await (const event of following) {
      expect(event.seq).toBe(2);
      leave.abort();
    }
  });

  test('ends a follower that waits when it is no longer wanted', async () => {
    const leave = new AbortController();
    const reading = Array.fromAsync(logOf([]).follow({ signal: leave.signal }));
    leave.abort();
    expect(await reading).toEqual([]);
  });

  test('tells a follower that fell too far behind', async () => {
    const log = logOf([], 2);
    const events = log.follow({ signal: new AbortController().signal })[Symbol.asyncIterator]();
    const first = events.next();
    for (const vm of ['a', 'b', 'c', 'd', 'e']) append(log, vm);
    await expect(Promise.all([first, events.next(), events.next()])).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
  });

  test('calls listeners until they are disposed of', () => {
    const log = logOf([]);
    const heard: number[] = [];
    {
      using _ = log.listen(({ seq }) => heard.push(seq));
      append(log, 'a');
    }
    append(log, 'a');
    expect(heard).toEqual([1]);
  });
});
