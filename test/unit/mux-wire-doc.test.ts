/** docs/reference/wire-protocol.md says what the code does: its example decodes, its tables have the code's names and numbers. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { FRAME, frameName } from '../../shared/mux/frame.ts';
import { DEFAULT_MUX_LIMITS, FLOOD } from '../../shared/mux/limits.ts';
import { RESET_CODES } from '../../shared/mux/reset-codes.ts';
import { framesOf, fromHex } from '../support/mux-pair.ts';

const page = readFileSync(new URL('../../docs/reference/wire-protocol.md', import.meta.url), 'utf8');

describe('docs/reference/wire-protocol.md', () => {
  test('its example decodes to the frames that its comments name', () => {
    const block = /```hex\n([\s\S]*?)```/.exec(page)?.[1] ?? '';
    const named = [...block.matchAll(/^# [→←] ([A-Z_]+)/gm)].map((match) => match[1]);
    const hex = block.replaceAll(/^#.*$/gm, '');
    expect(named.length).toBe(9);
    expect(framesOf(fromHex(hex)).map(({ type }) => frameName(type))).toEqual(named);
  });

  test('its table of frames has every type', () => {
    const rows = [...page.matchAll(/^\| 0x([0-9a-f]{2}) \| ([A-Z_]+) \|/gm)].map((match) => [
      match[2],
      Number.parseInt(match[1] ?? '', 16),
    ]);
    expect(Object.fromEntries(rows)).toEqual(FRAME);
  });

  test('its table of reset codes has every code', () => {
    const rows = [...page.matchAll(/^\| (\d+) \| ([A-Z_]+) \|/gm)].map((match) => [match[2], Number(match[1])]);
    expect(Object.fromEntries(rows)).toEqual(RESET_CODES);
  });

  test('its example of HELLO and its limits have the numbers that hold', () => {
    const hello: unknown = JSON.parse(/```json\n([\s\S]*?)```/.exec(page)?.[1] ?? '');
    const { maxFrameBytes, maxMessageBytes, initialWindowBytes, maxStreams } = DEFAULT_MUX_LIMITS;
    expect(hello).toMatchObject({ limits: { maxFrameBytes, maxMessageBytes, initialWindowBytes, maxStreams } });
    for (const { burst, perSecond } of Object.values(FLOOD)) expect(page).toContain(`${burst} at once, ${perSecond} a second`);
  });
});
