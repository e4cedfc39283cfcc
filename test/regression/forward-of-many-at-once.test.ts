/**
 * Of 2,000 connections that were made to `fairlead forward` at once, three in four were reset: all were passed on to the guest at the same
 * time, and its host takes a guest that owes the answer to 256 connections for stuck.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { FairleadError } from '../../shared/errors.ts';
import { startFakeFleet } from '../support/fake-fleet.ts';

const ENTRY = fileURLToPath(new URL('../../bin/fairlead.js', import.meta.url));
const CONNECTIONS = 400;
/** As agent/streams/vhost-user-dial.ts has it. */
const MOST_UNANSWERED = 256;
/** Turns of the event loop in which a guest has not answered yet: enough for all others to come. */
const TURNS = 100;

it(`forward carries ${CONNECTIONS} connections that come at once, also where a guest is slow to answer`, async () => {
  await using fleet = await startFakeFleet();
  let unanswered = 0;
  fleet.vms.openStream = async () => {
    if (unanswered >= MOST_UNANSWERED) throw new FairleadError('LIMIT_EXCEEDED', 'the guest is paused or stuck');
    unanswered += 1;
    for (let passed = 0; passed < TURNS; passed += 1) await turn();
    unanswered -= 1;
    return { stream: new PassThrough({ allowHalfOpen: true }), transport: 'vhost-vsock', halfClose: true, generation: 1 };
  };
  const env = { ...process.env, FAIRLEAD_HUB: fleet.url, FAIRLEAD_TOKEN: fleet.token };
  const forward = spawn(process.execPath, [ENTRY, 'forward', 'web', '0:7'], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  const exited = once(forward, 'exit');
  try {
    const [said] = await once(forward.stderr, 'data');
    const port = Number(/:(\d+) leads to port 7/.exec(String(said))?.[1]);
    forward.stderr.resume();
    const say = async (words: string): Promise<string> => text(connect(port).end(words)).catch((error: Error) => error.message);
    const words = Array.from({ length: CONNECTIONS }, (_, index) => `connection ${index}`);
    expect(await Promise.all(words.map(say))).toEqual(words);
  } finally {
    forward.kill('SIGINT');
    await exited;
  }
}, 120_000);
