import { describe, expect, test } from 'vitest';
import { EventLog } from '../../agent/vm/events.ts';
import type { VmRecord } from '../../agent/vm/store.ts';
import { tellLate } from '../../agent/vm/untold.ts';
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

  test('lets a VM that makes events without end push out its own, and counts what is missing in between', () => {
    const log = logOf(['quiet', 'quiet'], 8);
    for (let n = 0; n < 100; n++) append(log, 'noisy');
    append(log, 'quiet');
    for (let n = 0; n < 100; n++) append(log, 'noisy');
    const { events, missed } = log.query({});
    expect(seqs(events)).toEqual([1, 2, 103, 199, 200, 201, 202, 203]);
    expect(missed).toBe(195);
    expect(log.query({ since: 103 }).missed).toBe(95);
    expect(log.query({ since: 198 }).missed).toBe(0);
    expect(log.query({ vm: 'quiet' }).events).toHaveLength(3);
  });

  test('drops the oldest of all where no VM has more than another', () => {
    const log = logOf(['a', 'b', 'c', 'd'], 3);
    expect(log.query({})).toMatchObject({ events: [{ vm: 'b' }, { vm: 'c' }, { vm: 'd' }], missed: 1 });
    expect(log.vms).toEqual(['b', 'c', 'd']);
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

describe('an agent that comes back', () => {
  const NOW = new Date().toISOString();
  const vm = (log: EventLog, name: string, record: object = {}) => ({
    name,
    // SAFETY: no more of it is looked at.
    record: { state: 'created', generation: 0, createdAt: NOW, ...record } as VmRecord,
    announce: () => void log.append({ vm: name, type: 'vm.created', state: 'created', data: { generation: 0 } }),
  });
  const told = (log: EventLog) => log.query({}).events.map((event) => `${event.vm} ${event.type}`);

  test('tells of a VM that was made and not told of, once, and of none that has run', () => {
    const log = new EventLog();
    const vms = [vm(log, 'web'), vm(log, 'old', { state: 'stopped', generation: 3 })];
    tellLate(log, vms, new Set());
    tellLate(log, vms, new Set());
    expect(told(log)).toEqual(['web vm.created']);
  });

  test('does not tell again what has left the log', () => {
    const log = logOf(['a', 'a', 'a'], 2);
    tellLate(log, [vm(log, 'web', { createdAt: '2020-01-01T00:00:00.000Z' }), vm(log, 'a', { generation: 1 })], new Set());
    expect(log.query({}).lastSeq).toBe(3);
  });

  test('tells that a VM is gone that is told of and not there, once', () => {
    const log = logOf(['gone', 'broken', 'web']);
    tellLate(log, [vm(log, 'web', { generation: 1 })], new Set(['broken']));
    tellLate(log, [vm(log, 'web', { generation: 1 })], new Set(['broken']));
    expect(told(log).slice(3)).toEqual(['gone vm.deleted']);
  });
});
