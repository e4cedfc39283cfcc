/** `fairlead forward` and `fairlead listen` as processes, through a real hub and agent; the guest is an echo that can dial. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { startFakeFleet } from '../support/fake-fleet.ts';

const ENTRY = fileURLToPath(new URL('../../bin/fairlead.js', import.meta.url));

function start(fleet: { url: string; token: string }, args: readonly string[]) {
  const env = { ...process.env, FAIRLEAD_HUB: fleet.url, FAIRLEAD_TOKEN: fleet.token };
  const child: ChildProcess = spawn(process.execPath, [ENTRY, ...args], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  const lines = child.stderr === null ? undefined : createInterface({ input: child.stderr })[Symbol.asyncIterator]();
  return {
    /** The next line that it says. */
    line: async (): Promise<string> => {
      const next = await lines?.next();
      if (next === undefined || next.done === true) throw new Error('the command has ended');
      return next.value;
    },
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, 'exit');
      child.kill('SIGINT');
      await exited;
      expect(child.exitCode).toBe(0);
    },
  };
}

it('forward carries bytes both ways and each half by itself, also after the line broke', async () => {
  await using fleet = await startFakeFleet();
  await using forward = start(fleet, ['forward', 'web', '0:7']);
  const port = Number(/:(\d+) leads to port 7/.exec(await forward.line())?.[1]);
  const say = async (words: string): Promise<string> => {
    const socket = connect(port);
    socket.end(words);
    return text(socket);
  };
  expect(await say('hello')).toBe('hello');
  // In the middle of the next one.
  const cut = fleet.proxy.cutAfter(1);
  expect(await say('through a broken line')).toBe('through a broken line');
  await cut;
  expect(await Promise.all(Array.from({ length: 50 }, (_, index) => say(String(index))))).toHaveLength(50);
});

it('forward to a VM that is not there says so at once, and to each connection, and goes on', async () => {
  await using fleet = await startFakeFleet();
  await using forward = start(fleet, ['forward', 'wbe', '0:7', '0:8']);
  const port = Number(/:(\d+) leads to port 7/.exec(await forward.line())?.[1]);
  expect(await forward.line()).toMatch(/leads to port 8 of VM wbe/);
  expect(await forward.line()).toMatch(/^VM wbe cannot be reached yet: .*wbe.*; the ports stay open for when it can$/);
  for (let time = 0; time < 2; time += 1) {
    const socket = connect(port);
    expect(await once(socket, 'error')).toMatchObject([{ code: 'ECONNRESET' }]);
    expect(await forward.line()).toMatch(/^a connection to port 7 of VM wbe ended: .*wbe/);
  }
});

it('listen joins what the guest dials to a port of this machine', async () => {
  await using fleet = await startFakeFleet();
  await using guest = await fleet.startGuest();
  const server = createServer({ allowHalfOpen: true }, (socket) => void text(socket).then((said) => socket.end(`got ${said}`)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  try {
    const port = address !== null && typeof address === 'object' ? address.port : 0;
    await using listener = start(fleet, ['listen', 'web', '9000', String(port)]);
    expect(await listener.line()).toBe('listening to VM web on port 9000');
    const socket = await guest.dial(9000);
    socket.end('this');
    expect(await text(socket)).toBe('got this');
    server.close();
    const nobody = await guest.dial(9000);
    expect(await text(nobody)).toBe('');
    expect(await listener.line()).toMatch(/a connection of VM web to port 9000 ended: could not connect to 127\.0\.0\.1/);
  } finally {
    server.close();
  }
});
