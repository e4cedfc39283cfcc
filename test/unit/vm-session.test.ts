/** What a session makes of a trail: each event told once and in order. */
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Session, type SessionEnd } from '../../agent/vm/session.ts';
import type { ProcessExit } from '../../agent/vm/spawn.ts';
import { silent } from '../support/vm.ts';

const GREETING = '{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": ""}, "capabilities": []}}\n';

function line(seconds: number, event: string, data: object = {}): string {
  return `${JSON.stringify({ timestamp: { seconds, microseconds: 0 }, event, data })}\n`;
}

describe('a session without QMP', () => {
  let directory: string;
  let trail: string;
  const told: string[] = [];
  let end: SessionEnd | undefined;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'fl-session-'));
    trail = join(directory, 'trail.jsonl');
    told.length = 0;
    end = undefined;
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  function session(heardUntilMs?: number) {
    const exited = Promise.withResolvers<ProcessExit>();
    const made = new Session({
      vm: 'web',
      generation: 1,
      process: { identity: { pid: 0, startTime: '' }, exited: exited.promise, hasExited: () => false, signal() {} },
      device: undefined,
      qmpSocket: join(directory, 'nobody'),
      trail,
      heardUntilMs,
      logger: silent,
      handlers: {
        onInput: (input, _, at) => void told.push(`${input} ${at}`),
        onNotice: ({ type }) => void told.push(type),
        onReady() {},
        onEnd: (how) => {
          end = how;
        },
      },
    });
    return { made, exited };
  }

  test('tells what the trail has after the last event that is known, and nothing twice', () => {
    writeFileSync(trail, GREETING + line(1, 'RESUME') + line(2, 'STOP') + line(3, 'RESUME'));
    const { made } = session(1_000);
    made.catchUp();
    made.catchUp();
    expect(told).toEqual(['pause 2000', 'resume 3000']);
  });

  test('does not mind a clock that is set back', () => {
    writeFileSync(trail, GREETING + line(100, 'RESUME'));
    const { made } = session();
    made.catchUp();
    appendFileSync(trail, line(50, 'STOP'));
    made.catchUp();
    expect(told).toEqual(['resume 100000', 'pause 50000']);
  });

  test('goes on where the trail was cut', () => {
    writeFileSync(trail, GREETING + line(1, 'RESUME'));
    const { made } = session();
    made.catchUp();
    writeFileSync(trail, line(2, 'STOP'));
    made.catchUp();
    expect(told).toEqual(['resume 1000', 'pause 2000']);
  });

  test('knows the reason of an end from the trail', async () => {
    writeFileSync(trail, GREETING + line(1, 'RESUME'));
    const { made, exited } = session(1_000);
    appendFileSync(trail, line(2, 'SHUTDOWN', { guest: true, reason: 'guest-shutdown' }));
    exited.resolve({ code: null, signal: null });
    await made.ended;
    expect(told).toEqual(['stop 2000']);
    expect(end).toEqual({ code: null, signal: null, shutdownReason: 'guest-shutdown' });
  });
});
