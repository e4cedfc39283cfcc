/** Durations on the command line: `500ms`, `30s`, `5m`, `1h`; a bare number is seconds. */
import { InvalidArgumentError, Option } from 'commander';

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, '': 1000, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** @returns milliseconds, an integer. @throws InvalidArgumentError, which commander reports with the option's name. */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)?$/.exec(text);
  if (match === null) throw new InvalidArgumentError('Write a duration such as 500ms, 30s, 5m or 1h.');
  return Math.round(Number(match[1]) * (UNIT_MS[match[2] ?? ''] ?? 1000));
}

/** An option that takes a duration; help shows the default as it is written here. */
export function durationOption(flags: string, description: string, byDefault: string): Option {
  return new Option(flags, description).argParser(parseDuration).default(parseDuration(byDefault), byDefault);
}
