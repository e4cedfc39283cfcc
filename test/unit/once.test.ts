import { describe, expect, it } from 'vitest';
import type { Journal } from '../../agent/journal/journal.ts';
import { HandOver } from '../../agent/rpc/hand-over.ts';
import { digestOf } from '../../agent/rpc/operation-record.ts';
import { CancelSource } from '../../shared/cancellation.ts';
import { canonicalJson } from '../../shared/canonical-json.ts';
import { FairleadError, type JsonObject } from '../../shared/errors.ts';
import type { RequestContext } from '../../shared/jsonrpc/types.ts';
import { redactSecrets } from '../../shared/redact.ts';
import { FakeVms } from '../support/fake-vms.ts';
import { MemoryFiles, testJournal } from '../support/journal-files.ts';
import { onceOf } from '../support/once.ts';

interface Caller {
  readonly context: RequestContext;
  readonly source: CancelSource;
}

function caller(meta: JsonObject = {}, timeoutMs?: number): Caller {
  const source = new CancelSource();
  const context: RequestContext = {
    id: 1,
    method: 'test',
    cancellation: source,
    get signal() {
      return source.signal;
    },
    remainingMs: () => timeoutMs,
    wantsProgress: false,
    progress: () => {},
    trace: {},
    meta,
  };
  return { context, source };
}

/** A command whose end the test decides; its signal ends it too, as it does every command. */
function command() {
  const begun: AbortSignal[] = [];
  const gate = Promise.withResolvers<unknown>();
  const first = Promise.withResolvers<void>();
  const run = ({ signal }: { signal: AbortSignal }): Promise<unknown> => {
    begun.push(signal);
    first.resolve();
    signal.addEventListener('abort', () => gate.reject(signal.reason));
    return gate.promise;
  };
  return { run, begun, hasBegun: first.promise, finish: gate.resolve, fail: gate.reject };
}

const PARAMS = { vm: 'web', graceMs: 0 };
const stop = 'vm.stop';

function setUp(options: { files?: MemoryFiles; journal?: Journal } = {}) {
  const files = options.files ?? new MemoryFiles();
  const { once, journal } = onceOf(new FakeVms(), { journal: options.journal ?? testJournal({ files }) });
  const give = (one: ReturnType<typeof command>, meta: JsonObject = { commandId: 'c1' }, params: JsonObject = PARAMS) =>
    once.run(stop, params, caller(meta).context, one.run);
  return { once, journal, files, give };
}

describe('a command', () => {
  it('that hands the host over to another agent stays open for that one, and no repeat runs it meanwhile', async () => {
    const { give, journal, once } = setUp();
    const [one, repeat] = [command(), command()];
    const answer = give(one);
    await one.hasBegun;
    one.fail(new HandOver('the agent leaves'));
    await expect(answer).rejects.toMatchObject({ code: 'INTERRUPTED' });
    await expect(give(repeat)).rejects.toMatchObject({ code: 'INTERRUPTED' });
    expect(repeat.begun).toHaveLength(0);
    expect(await journal.find('c1')).toMatchObject({ state: 'running' });
    await once.close();
  });

  it('is durable before it runs, and its outcome before it is answered', async () => {
    const { give, files, journal } = setUp();
    const one = command();
    const gate = Promise.withResolvers<void>();
    files.syncGate = gate.promise;
    const answer = give(one);
    expect(one.begun).toHaveLength(0);
    gate.resolve();
    await one.hasBegun;
    expect(await journal.find('c1')).toMatchObject({ state: 'running', before: { state: 'running', generation: 1 } });
    one.finish({ endedBy: 'guest' });
    expect(await answer).toEqual({ endedBy: 'guest' });
    expect(await journal.find('c1')).toMatchObject({
      method: stop,
      host: 'edge-1',
      vm: 'web',
      state: 'done',
      params: PARAMS,
      paramsDigest: digestOf(PARAMS),
      result: { endedBy: 'guest' },
      after: { generation: 1 },
      attempts: 1,
    });
  });

  it('without an id gets one, and its failure tells it', async () => {
    const { give, journal } = setUp();
    const one = command();
    one.fail(new FairleadError('WRONG_STATE', 'not now', { details: { state: 'paused' } }));
    const failure: unknown = await give(one, {}).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'WRONG_STATE', message: 'not now', details: { state: 'paused' } });
    // SAFETY: looked at above.
    const { commandId } = (failure as FairleadError).details as { commandId: string };
    expect(await journal.find(commandId)).toMatchObject({ state: 'failed', error: { code: 'WRONG_STATE', message: 'not now' } });
  });

  it('says who gave it, and keeps no secret', async () => {
    const { give, journal } = setUp();
    const one = command();
    one.finish({});
    await give(one, { commandId: 'c1', actor: 'token-7' }, { vm: 'web', user: { password: 'p', name: 'n' }, input: 'x' });
    expect(await journal.find('c1')).toMatchObject({
      actor: 'token-7',
      params: { vm: 'web', user: { password: '[redacted]', name: 'n' }, input: '[redacted]' },
    });
  });

  it.each(['', 'a b', 'x'.repeat(65), 7])('with the id %j is refused before anything else', async (commandId) => {
    const { give, journal } = setUp();
    await expect(give(command(), { commandId })).rejects.toMatchObject({ code: 'INVALID_PARAMS' });
    expect((await journal.list({ limit: 9 })).operations).toEqual([]);
  });
});

describe('a repeat', () => {
  it('of a command that runs waits for its end and runs nothing', async () => {
    const { give } = setUp();
    const [one, repeat] = [command(), command()];
    const answers = [give(one), give(repeat), give(repeat)];
    await one.hasBegun;
    one.finish('once');
    expect(await Promise.all(answers)).toEqual(['once', 'once', 'once']);
    expect([one.begun.length, repeat.begun.length]).toEqual([1, 0]);
  });

  it('of one that has ended gets the same answer, also from a later agent', async () => {
    const { give, files } = setUp();
    const [one, bad, repeat] = [command(), command(), command()];
    one.finish({ endedBy: 'guest' });
    bad.fail(new FairleadError('QMP_FAILED', 'QEMU said no', { details: { class: 'GenericError' } }));
    await give(one);
    await expect(give(bad, { commandId: 'c2' })).rejects.toThrow('QEMU said no');
    for (const again of [give, setUp({ files }).give]) {
      expect(await again(repeat)).toEqual({ endedBy: 'guest' });
      await expect(again(repeat, { commandId: 'c2' })).rejects.toMatchObject({
        code: 'QMP_FAILED',
        message: 'QEMU said no',
        details: { class: 'GenericError', commandId: 'c2' },
      });
    }
    expect(repeat.begun).toHaveLength(0);
  });

  it('with the keys of its params in another order is the same', async () => {
    const { give } = setUp();
    const one = command();
    one.finish('once');
    await give(one);
    expect(await give(command(), { commandId: 'c1' }, { graceMs: 0, vm: 'web' })).toBe('once');
  });

  it('with other params, or of another method, is refused with both digests', async () => {
    const { give, once } = setUp();
    const one = command();
    const answer = give(one);
    await one.hasBegun;
    const other = { vm: 'web', graceMs: 1 };
    const conflict = { code: 'CONFLICT', details: { paramsDigest: digestOf(PARAMS), repeatParamsDigest: digestOf(other) } };
    await expect(give(command(), { commandId: 'c1' }, other)).rejects.toMatchObject(conflict);
    one.finish('once');
    await answer;
    await expect(give(command(), { commandId: 'c1' }, other)).rejects.toMatchObject(conflict);
    await expect(once.run('vm.start', PARAMS, caller({ commandId: 'c1' }).context, command().run)).rejects.toMatchObject({
      code: 'CONFLICT',
      details: { method: stop, repeatMethod: 'vm.start' },
    });
  });

  it('of one whose answer is too long to be kept is told its size and digest', async () => {
    const { give, journal } = setUp();
    const one = command();
    one.finish({ text: 'x'.repeat(70_000) });
    await give(one);
    expect(await journal.find('c1')).toMatchObject({ state: 'done', resultOmitted: { bytes: 70_011 } });
    await expect(give(command())).rejects.toMatchObject({ code: 'RESULT_NOT_KEPT', details: { bytes: 70_011 } });
  });
});

describe('whoever waits', () => {
  it('and loses the line does not end the command: the repeat over the next line is told', async () => {
    const { once, give, journal } = setUp();
    const one = command();
    const first = caller({ commandId: 'c1' });
    const answer = once.run(stop, PARAMS, first.context, one.run);
    await one.hasBegun;
    first.source.abort(new FairleadError('INTERRUPTED', 'the line dropped'));
    expect(one.begun[0]?.aborted).toBe(false);
    const repeat = give(command());
    one.finish('done all the same');
    expect(await repeat).toBe('done all the same');
    await answer;
    expect(await journal.find('c1')).toMatchObject({ state: 'done' });
  });

  it('and loses the line leaves the deadline behind', async () => {
    const { once } = setUp();
    const one = command();
    const first = caller({ commandId: 'c1' }, 20);
    const answer = once.run(stop, PARAMS, first.context, one.run);
    answer.catch(() => {});
    await one.hasBegun;
    first.source.abort(new FairleadError('INTERRUPTED', 'the line dropped'));
    await expect(answer).rejects.toMatchObject({ code: 'TIMEOUT' });
  });

  it('and cancels ends it, unless somebody else waits', async () => {
    const { once } = setUp();
    const one = command();
    const [first, second] = [caller({ commandId: 'c1' }), caller({ commandId: 'c1' })];
    const answer = once.run(stop, PARAMS, first.context, one.run);
    answer.catch(() => {});
    await one.hasBegun;
    const repeat = once.run(stop, PARAMS, second.context, command().run);
    const cancelled = new FairleadError('CANCELLED', 'enough');
    first.source.abort(cancelled);
    expect(one.begun[0]?.aborted).toBe(false);
    second.source.abort(cancelled);
    await expect(repeat).rejects.toMatchObject({ code: 'CANCELLED' });
    await expect(answer).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(one.begun[0]?.aborted).toBe(true);
  });

  it('only by a repeat may leave when its own time is over', async () => {
    const { once, give } = setUp();
    const one = command();
    const answer = give(one);
    await one.hasBegun;
    const second = caller({ commandId: 'c1' });
    const repeat = once.run(stop, PARAMS, second.context, command().run);
    second.source.abort(new FairleadError('TIMEOUT', 'too long for me'));
    await expect(repeat).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(one.begun[0]?.aborted).toBe(false);
    one.finish('done');
    expect(await answer).toBe('done');
  });

  it('while the agent stops is told, and the record says so', async () => {
    const { once, give, journal } = setUp();
    const one = command();
    const answer = give(one);
    answer.catch(() => {});
    await one.hasBegun;
    await once.close();
    await expect(answer).rejects.toMatchObject({ code: 'INTERRUPTED' });
    expect(await journal.find('c1')).toMatchObject({ state: 'failed', error: { code: 'INTERRUPTED' } });
    await expect(give(command(), { commandId: 'c2' })).rejects.toMatchObject({ code: 'INTERRUPTED' });
  });
});

describe('a journal that cannot be written', () => {
  it('keeps the command from running', async () => {
    const { give, files } = setUp();
    files.faults = [{ on: 'write', code: 'ENOSPC' }];
    const one = command();
    await expect(give(one)).rejects.toMatchObject({ code: 'JOURNAL_FAILED', message: expect.stringContaining('ENOSPC') });
    expect(one.begun).toHaveLength(0);
    files.faults = [];
    one.finish('done');
    expect(await give(one)).toBe('done');
  });

  it('when the command has ended makes the answer wait for a repeat', async () => {
    const { give, files, journal } = setUp();
    const [one, repeat] = [command(), command()];
    const answer = give(one);
    answer.catch(() => {});
    await one.hasBegun;
    files.faults = [{ on: 'write', code: 'ENOSPC' }];
    one.finish('done');
    await expect(answer).rejects.toMatchObject({ code: 'JOURNAL_FAILED', details: { commandId: 'c1' } });
    await expect(give(repeat)).rejects.toMatchObject({ code: 'JOURNAL_FAILED' });
    files.faults = [];
    expect(await give(repeat)).toBe('done');
    expect(repeat.begun).toHaveLength(0);
    expect(await journal.find('c1')).toMatchObject({ state: 'done', result: 'done' });
  });

  it('because it has lost records does not run a command of that time', async () => {
    const { give, files } = setUp();
    const one = command();
    one.finish('done');
    await give(one);
    const image = files.image();
    const bytes = Object.values(image)[0] ?? Buffer.alloc(0);
    for (let at = bytes.indexOf('"c1"'); at !== -1; at = bytes.indexOf('"c1"', at + 1)) bytes[at + 1] = 0x58;
    const repeat = command();
    await expect(setUp({ files: MemoryFiles.of(image) }).give(repeat)).rejects.toMatchObject({ code: 'OUTCOME_UNKNOWN' });
    expect(repeat.begun).toHaveLength(0);
  });
});

describe('a journal that was full', () => {
  it('has a repeat of what it has forgotten told so, and never runs it', async () => {
    const journal = testJournal({ limits: { maxOperations: 2 } });
    const { give } = setUp({ journal });
    for (const commandId of ['c1', 'c2', 'c3']) {
      const one = command();
      one.finish({});
      await give(one, { commandId });
    }
    const repeat = command();
    await expect(give(repeat, { commandId: 'c1' })).rejects.toMatchObject({
      code: 'OUTCOME_UNKNOWN',
      message: expect.stringContaining('full'),
    });
    expect(repeat.begun).toEqual([]);
  });
});

describe('after a crash', () => {
  /** The journal of an agent that died while `method` ran. */
  async function crashed(method: string): Promise<MemoryFiles> {
    const { once, files } = setUp();
    const one = command();
    once.run(method, PARAMS, caller({ commandId: 'c1' }).context, one.run).catch(() => {});
    await one.hasBegun;
    return MemoryFiles.of(files.image());
  }

  async function repeated(outcome: 'done' | 'not-done' | 'unknown') {
    const files = await crashed(stop);
    const reason = 'because';
    const found = outcome === 'done' ? { outcome, reason, result: 'found' } : { outcome, reason };
    const { once, journal } = onceOf(new FakeVms(), { journal: testJournal({ files }), reconcile: async () => found });
    const one = command();
    one.finish('run again');
    await once.prepare();
    const record = await journal.find('c1');
    const answer = await once.run(stop, PARAMS, caller({ commandId: 'c1' }).context, one.run).catch((error: unknown) => error);
    return { record, answer, begun: one.begun.length, journal, files };
  }

  it('what was done is answered as done', async () => {
    const { record, answer, begun } = await repeated('done');
    expect(record).toMatchObject({ state: 'done', result: 'found', reconciled: { outcome: 'done', reason: 'because' } });
    expect([answer, begun]).toEqual(['found', 0]);
  });

  it('what was not done runs when it is repeated, and says that it is the second attempt', async () => {
    const { record, answer, begun, journal } = await repeated('not-done');
    expect(record).toMatchObject({ state: 'failed', error: { code: 'INTERRUPTED' }, reconciled: { outcome: 'not-done' } });
    expect([answer, begun]).toEqual(['run again', 1]);
    expect(await journal.find('c1')).toMatchObject({ state: 'done', attempts: 2 });
  });

  it('its record is told once it is known what became of it', async () => {
    const files = await crashed(stop);
    const reconcile = async () => ({ outcome: 'not-done', reason: 'x' }) as const;
    const { once } = onceOf(new FakeVms(), { journal: testJournal({ files }), reconcile });
    expect(await once.find('c1')).toMatchObject({ state: 'failed', reconciled: { outcome: 'not-done' } });
  });

  it('what cannot be told is never run again, by no later agent either', async () => {
    const { record, answer, begun, files } = await repeated('unknown');
    expect(record).toMatchObject({ state: 'unknown', error: { code: 'OUTCOME_UNKNOWN' } });
    expect([answer, begun]).toEqual([expect.objectContaining({ code: 'OUTCOME_UNKNOWN' }), 0]);
    const later = command();
    await expect(setUp({ files }).give(later)).rejects.toMatchObject({ code: 'OUTCOME_UNKNOWN' });
    expect(later.begun).toHaveLength(0);
  });

  it('no command of the same VM runs before that has been looked at, and those of other VMs do not wait', async () => {
    const files = await crashed(stop);
    const gate = Promise.withResolvers<void>();
    const reconcile = async () => {
      await gate.promise;
      return { outcome: 'not-done', reason: 'x' } as const;
    };
    const { once } = onceOf(new FakeVms(), { journal: testJournal({ files }), reconcile });
    const one = command();
    one.finish('second');
    const answer = once.run(stop, PARAMS, caller({ commandId: 'c2' }).context, one.run);
    const other = command();
    other.finish('another VM');
    expect(await once.run(stop, { vm: 'db' }, caller({ commandId: 'c3' }).context, other.run)).toBe('another VM');
    expect(one.begun).toHaveLength(0);
    gate.resolve();
    expect(await answer).toBe('second');
  });
});

describe('canonical JSON', () => {
  it('is as RFC 8785 has it', () => {
    expect(canonicalJson({ b: [1, { d: 1e21, c: -0 }], a: 'é"\n', '\u20ac': null, '1': true })).toBe(
      '{"1":true,"a":"é\\"\\n","b":[1,{"c":0,"d":1e+21}],"€":null}',
    );
  });
});

describe('redaction', () => {
  it('goes by the name of the field', () => {
    const text = JSON.stringify({ token: 't', stdin: 's', keyboard: 'k', nested: { apiSecret: [1] } }, redactSecrets);
    expect(JSON.parse(text)).toEqual({
      token: '[redacted]',
      stdin: '[redacted]',
      keyboard: 'k',
      nested: { apiSecret: '[redacted]' },
    });
  });
});
