/** Durations on the command line: `500ms`, `30s`, `5m`, `1h`; a bare number is seconds. */
import { InvalidArgumentError, Option } from 'commander';
import { MAX_TIMEOUT_MS } from '../shared/jsonrpc/meta.ts';

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, '': 1000, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const MAX_TIMEOUT_DAYS = Math.floor(MAX_TIMEOUT_MS / 86_400_000);

/** @returns milliseconds, an integer. @throws InvalidArgumentError, which commander reports with the option's name. */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)?$/.exec(text);
  if (match === null) throw new InvalidArgumentError('Write a duration such as 500ms, 30s, 5m or 1h.');
  const exactMs = Number(match[1]) * (UNIT_MS[match[2] ?? ''] ?? 1000);
  const ms = Math.round(exactMs);
  // 0 often stands for no limit: a short time must not become that.
  if (ms === 0 && exactMs > 0) throw new InvalidArgumentError('Write at least 1ms, or 0.');
  if (!Number.isSafeInteger(ms)) throw new InvalidArgumentError('Write a shorter duration.');
  return ms;
}

/** A duration that a timer waits for: Node's fires at once when it is given more than 32 bits of milliseconds. */
export function parseTimeout(text: string): number {
  const ms = parseDuration(text);
  if (ms > MAX_TIMEOUT_MS) throw new InvalidArgumentError(`Write at most ${MAX_TIMEOUT_DAYS}d.`);
  return ms;
}

/** An option that takes a duration to wait for; help shows the default as it is written here. */
export function durationOption(flags: string, description: string, byDefault: string): Option {
  return new Option(flags, description).argParser(parseTimeout).default(parseTimeout(byDefault), byDefault);
}
