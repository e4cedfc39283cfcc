import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { judgeEnd } from '../../agent/vm/ending.ts';
import { readTrail, shutdownReasonOf } from '../../agent/vm/trail.ts';

const GREETING = '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}';
const RESUME = '{"timestamp": {"seconds": 1, "microseconds": 5}, "event": "RESUME"}';
const SHUTDOWN =
  '{"timestamp": {"seconds": 2, "microseconds": 0}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}';

describe('the trail', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'fl-trail-'));
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  function trailOf(text: string) {
    const path = join(directory, 'trail.jsonl');
    writeFileSync(path, text);
    return readTrail(path);
  }

  test('gives the events in order, and why QEMU ended', () => {
    const trail = trailOf([GREETING, '{"return": {}}', RESUME, SHUTDOWN, ''].join('\r\n'));
    expect(trail).toMatchObject({ isWhole: true, events: [{ name: 'RESUME' }, { name: 'SHUTDOWN' }] });
    expect(shutdownReasonOf(trail)).toBe('guest-shutdown');
  });

  test('is nothing where there is none', () => {
    expect(readTrail(join(directory, 'none'))).toEqual({ isWhole: false, events: [] });
  });

  test('says when its beginning was cut, and passes over what is no event', () => {
    const trail = trailOf(['\0\0\0', 'half a line"}', '{"event": 7}', RESUME, '{"timestamp": {"sec'].join('\n'));
    expect(trail).toMatchObject({ isWhole: false, events: [{ name: 'RESUME' }] });
    expect(shutdownReasonOf(trail)).toBeUndefined();
  });

  test('that a guest made long is read from its end', () => {
    const trail = trailOf(`${GREETING}\n${`${RESUME}\n`.repeat(30_000)}${SHUTDOWN}\n`);
    expect(trail.isWhole).toBe(false);
    expect(trail.events.length).toBeGreaterThan(1_000);
    expect(shutdownReasonOf(trail)).toBe('guest-shutdown');
  });
});

describe('an end', () => {
  test.each([
    ['guest-shutdown', undefined, { reason: 'guest-shutdown', isClean: true }],
    ['host-qmp-quit', 'quit', { reason: 'host-qmp-quit', isClean: true }],
    ['host-signal', undefined, { reason: 'host-signal', isClean: true }],
    ['guest-panic', undefined, { reason: 'guest-panic', isClean: false }],
    ['host-error', 'guest', { reason: 'host-error', isClean: false }],
    [undefined, 'sigkill', { reason: 'sigkill', isClean: true }],
    [undefined, 'quit', { reason: 'lost', isClean: false }],
    [undefined, undefined, { reason: 'lost', isClean: false }],
  ] as const)('told as %s on rung %s is judged so', (shutdownReason, rung, judged) => {
    expect(judgeEnd({ shutdownReason, rung, otherwise: 'lost' })).toEqual(judged);
  });

  test.each([
    { exit: { code: null, signal: 'SIGKILL' }, otherwise: 'lost', reason: 'killed' },
    { exit: { code: 1, signal: null }, otherwise: 'lost', reason: 'exited' },
    { exit: { code: null, signal: null }, otherwise: 'lost', reason: 'lost' },
    { exit: { code: null, signal: 'SIGKILL' }, otherwise: 'out-of-memory', reason: 'out-of-memory' },
  ] as const)('without a word, of which the agent saw $exit, is $reason', ({ exit, otherwise, reason }) => {
    expect(judgeEnd({ shutdownReason: undefined, rung: undefined, exit, otherwise })).toEqual({ reason, isClean: false });
  });
});
