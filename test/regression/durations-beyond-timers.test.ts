/**
 * Symptom: `fairlead connect web 1024 --idle-timeout 30d` ended at once with exit code 0 and without the guest's answer, and
 * `--timeout 0.1ms` waited for ever.
 * Cause: a timer of Node takes 32 bits of milliseconds and fires after 1 ms when it is given more; and a part of a millisecond was
 * rounded to 0, which stands for no deadline.
 */
import { InvalidArgumentError } from 'commander';
import { describe, expect, it } from 'vitest';
import { durationOption, parseDuration, parseTimeout } from '../../cli/duration.ts';

describe('a duration on the command line', () => {
  it.each(['25d', '2147483648ms', '1000d'])('of %s is refused where it becomes a timer', (text) => {
    expect(() => parseTimeout(text)).toThrow(InvalidArgumentError);
    expect(() => durationOption('--idle-timeout <duration>', '', '10s').parseArg?.(text, 0)).toThrow(/at most 24d/);
  });

  it('is taken where a timer can be that long, and where nothing waits for it', () => {
    expect(parseTimeout('24d')).toBe(24 * 86_400_000);
    expect(parseDuration('365d')).toBe(365 * 86_400_000);
  });

  it.each(['0.1ms', '0.0001s', '9007199254740993ms'])('of %s, which no count of milliseconds can tell, is refused', (text) =>
    expect(() => parseDuration(text)).toThrow(InvalidArgumentError),
  );

  it.each(['0', '0ms', '0.0s'])('of %s is none', (text) => expect(parseTimeout(text)).toBe(0));
});
