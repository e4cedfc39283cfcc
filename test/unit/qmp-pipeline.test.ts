import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { CommandPipeline, MAX_IN_FLIGHT } from '../../agent/qmp/pipeline.ts';
import { FairleadError } from '../../shared/errors.ts';

const DONE = { kind: 'return', value: {} } as const;
const GONE = new FairleadError('INTERRUPTED', 'QEMU went away');

function pipelineWithLog() {
  const written: { execute?: string; 'exec-oob'?: string; id: number }[] = [];
  const outcomes: string[] = [];
  const pipeline = new CommandPipeline({
    monitor: 'test.sock',
    commandTimeoutMs: 10_000,
    onCommand: ({ command, ok }) => void outcomes.push(`${command} ${ok ? 'ok' : 'failed'}`),
    write: (text) => void written.push(JSON.parse(text)),
  });
  return { pipeline, written, outcomes };
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  // One timer may be left of commands that have ended: when it is due, it finds nothing, and is not set again.
  const before = vi.getTimerCount();
  vi.advanceTimersByTime(2 ** 31);
  const left = Math.max(vi.getTimerCount(), before - 1);
  vi.useRealTimers();
  if (left > 0) throw new Error(`${left} timers were left behind`);
});

describe('the command pipeline', () => {
  test('writes one line for each command, with arguments and a short id', async () => {
    const lines: string[] = [];
    const pipeline = new CommandPipeline({
      monitor: 'm',
      commandTimeoutMs: 1,
      onCommand: () => {},
      write: (text) => void lines.push(text),
    });
    const commands = [pipeline.submit('stop', undefined, {}), pipeline.submit('balloon', { value: 1 }, {})];
    expect(lines).toEqual(['{"execute":"stop","id":1}\n', '{"execute":"balloon","arguments":{"value":1},"id":2}\n']);
    pipeline.answer(1, DONE);
    pipeline.answer(2, DONE);
    await Promise.all(commands);
  });

  test('keeps at most 8 in-band commands in flight, and the order', async () => {
    const { pipeline, written } = pipelineWithLog();
    const commands = Array.from({ length: 20 }, (_, n) => pipeline.submit(`c${n}`, undefined, {}));
    expect(written).toHaveLength(MAX_IN_FLIGHT);
    for (let n = 0; n < 20; n++) {
      expect(pipeline.answer(written[n]?.id ?? 0, DONE)).toBe('delivered');
      expect(written).toHaveLength(Math.min(20, MAX_IN_FLIGHT + n + 1));
    }
    await Promise.all(commands);
    expect(written.map(({ execute }) => execute)).toEqual(Array.from({ length: 20 }, (_, n) => `c${n}`));
  });

  test('sends an out-of-band command past those that wait', async () => {
    const { pipeline, written } = pipelineWithLog();
    const commands = Array.from({ length: 9 }, () => pipeline.submit('slow', undefined, {}));
    const yank = pipeline.submit('yank', { instances: [] }, { oob: true });
    expect(written.at(-1)).toMatchObject({ 'exec-oob': 'yank', id: 10 });
    pipeline.answer(10, DONE);
    expect(await yank).toEqual({});
    expect(written.filter(({ execute }) => execute === 'slow')).toHaveLength(MAX_IN_FLIGHT);
    pipeline.interrupt(GONE);
    await Promise.allSettled(commands);
  });

  test('a command that timed out keeps its place until QEMU answers, and says that it was sent', async () => {
    const { pipeline, written, outcomes } = pipelineWithLog();
    const stuck = Promise.allSettled(
      Array.from({ length: MAX_IN_FLIGHT }, () => pipeline.submit('stuck', undefined, { timeoutMs: 5 })),
    );
    vi.advanceTimersByTime(5);
    expect(await stuck).toMatchObject(
      Array.from({ length: MAX_IN_FLIGHT }, () => ({
        reason: {
          code: 'TIMEOUT',
          message: "QMP command 'stuck' had no answer on test.sock within 5 ms",
          details: { command: 'stuck', sent: true },
        },
      })),
    );

    const next = pipeline.submit('next', undefined, {});
    expect(written).toHaveLength(MAX_IN_FLIGHT);
    expect(pipeline.answer(1, DONE)).toBe('late');
    expect(written.at(-1)).toMatchObject({ execute: 'next' });
    pipeline.answer(9, DONE);
    expect(await next).toEqual({});
    expect(outcomes).toEqual([...Array.from({ length: MAX_IN_FLIGHT }, () => 'stuck failed'), 'next ok']);
    expect(pipeline).toMatchObject({ commands: 9, failures: 8 });
  });

  test('a command that times out while it waits is never sent, and says so', async () => {
    const { pipeline, written } = pipelineWithLog();
    const stuck = Array.from({ length: MAX_IN_FLIGHT }, () => pipeline.submit('stuck', undefined, {}));
    const late = pipeline.submit('cont', undefined, { timeoutMs: 5 });
    vi.advanceTimersByTime(5);
    await expect(late).rejects.toMatchObject({ code: 'TIMEOUT', details: { command: 'cont', sent: false } });
    for (const { id } of written) pipeline.answer(id, DONE);
    await Promise.all(stuck);
    expect(written.some(({ execute }) => execute === 'cont')).toBe(false);
  });

  test('cancels by signal: before, while waiting, and while QEMU has it', async () => {
    const { pipeline, written } = pipelineWithLog();
    const reason = new Error('enough');
    await expect(pipeline.submit('a', undefined, { signal: AbortSignal.abort(reason) })).rejects.toMatchObject({
      code: 'CANCELLED',
      cause: reason,
      details: { sent: false },
    });
    expect(written).toEqual([]);
    const controller = new AbortController();
    const sent = pipeline.submit('b', undefined, { signal: controller.signal });
    const others = Array.from({ length: MAX_IN_FLIGHT - 1 }, () => pipeline.submit('stuck', undefined, {}));
    const waiting = pipeline.submit('c', undefined, { signal: controller.signal });
    controller.abort(reason);
    await expect(sent).rejects.toMatchObject({ code: 'CANCELLED', details: { command: 'b', sent: true } });
    await expect(waiting).rejects.toMatchObject({ code: 'CANCELLED', details: { command: 'c', sent: false } });
    for (const { id } of written) pipeline.answer(id, DONE);
    await Promise.all(others);
    expect(written).toHaveLength(MAX_IN_FLIGHT);
  });

  test('interrupts all that is pending, sent or not, and all that comes later, with the cause', async () => {
    const { pipeline } = pipelineWithLog();
    const commands = Array.from({ length: 9 }, () => pipeline.submit('c', undefined, {}));
    pipeline.interrupt(GONE);
    const interrupted = (sent: boolean) => ({ reason: { code: 'INTERRUPTED', cause: GONE, details: { sent } } });
    expect(await Promise.allSettled(commands)).toMatchObject([
      ...Array.from({ length: MAX_IN_FLIGHT }, () => interrupted(true)),
      interrupted(false),
    ]);
    await expect(pipeline.submit('c', undefined, {})).rejects.toMatchObject(interrupted(false).reason);
  });

  test('knows replies that were never asked for', async () => {
    const { pipeline } = pipelineWithLog();
    const command = pipeline.submit('c', undefined, {});
    expect(pipeline.answer(99999, DONE)).toBe('unknown');
    expect(pipeline.answer(1, DONE)).toBe('delivered');
    expect(pipeline.answer(1, DONE)).toBe('unknown');
    await command;
  });

  test('refuses arguments that are no JSON', async () => {
    const { pipeline, written } = pipelineWithLog();
    await expect(pipeline.submit('c', { value: 1n }, {})).rejects.toMatchObject({ code: 'INVALID_PARAMS' });
    expect(written).toEqual([]);
  });

  test('takes a deadline of Infinity as none', async () => {
    const { pipeline } = pipelineWithLog();
    const command = pipeline.submit('c', undefined, { timeoutMs: Number.POSITIVE_INFINITY });
    vi.advanceTimersByTime(1_000_000_000);
    pipeline.answer(1, DONE);
    expect(await command).toEqual({});
  });
});
