import { describe, expect, test } from 'vitest';
import { CancelSource } from '../../shared/cancellation.ts';

describe('a CancelSource', () => {
  test('tells each listener once, in order, with the reason known by then', () => {
    const source = new CancelSource();
    const heard: unknown[] = [];
    source.addEventListener('abort', () => heard.push(['first', source.reason]));
    source.addEventListener('abort', () => heard.push(['second', source.aborted]));
    source.abort('enough');
    source.abort('again');
    expect(heard).toEqual([
      ['first', 'enough'],
      ['second', true],
    ]);
    expect(source.reason).toBe('enough');
  });

  test('forgets a listener that was removed', () => {
    const source = new CancelSource();
    let calls = 0;
    const listener = (): void => void (calls += 1);
    source.addEventListener('abort', listener);
    source.removeEventListener('abort', listener);
    source.removeEventListener('abort', listener);
    source.abort('enough');
    expect(calls).toBe(0);
  });

  test.each(['before', 'after'])('has a signal that fires, asked for %s the abort', (when) => {
    const source = new CancelSource();
    const early = when === 'before' ? source.signal : undefined;
    source.abort('enough');
    const signal = early ?? source.signal;
    expect([signal.aborted, signal.reason]).toEqual([true, 'enough']);
    expect(source.signal).toBe(signal);
  });

  test('adds nothing once it was aborted, as with an AbortSignal', () => {
    const source = new CancelSource();
    source.abort('enough');
    let calls = 0;
    source.addEventListener('abort', () => void (calls += 1));
    expect(calls).toBe(0);
  });
});
