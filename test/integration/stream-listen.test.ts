/** What guests dial, up to the operator, through a real hub and a real agent; the guest's device is faked. */

import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { parseGuestService } from '../../agent/vm/guest-ports/guest-service.ts';
import { connect, type GuestConnection, type Hub } from '../../client/index.ts';
import { type FakeFleet, startFakeFleet } from '../support/fake-fleet.ts';

const PORT = 9000;

/** Listens, once the guest is heard. */
async function subscribe(hub: Hub, options: { replace?: boolean; signal?: AbortSignal } = {}) {
  const listening = Promise.withResolvers<void>();
  const connections = hub.listen('web', PORT, { ...options, onListening: listening.resolve })[Symbol.asyncIterator]();
  const first = connections.next();
  // Whoever is refused sees it by `first`.
  await Promise.race([listening.promise, first.catch(() => {})]);
  let isFirst = true;
  return {
    async next(): Promise<GuestConnection<Duplex>> {
      const { value, done } = await (isFirst ? first : connections.next());
      isFirst = false;
      if (done === true) throw new Error('nobody listens any more');
      return value;
    },
    first,
    connections,
  };
}

/** What a connection that nobody takes ends with; undefined for a plain end. */
async function endOf(socket: Socket): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  socket
    .once('close', () => resolve())
    .on('error', () => {})
    .resume();
  socket.end();
  await promise;
}

/** The guest keeps its half open; the stream ends with the line. */
function answer(stream: Duplex, words: string): void {
  stream.on('error', () => {}).end(words);
}

async function operatorOf(fleet: FakeFleet): Promise<Hub> {
  return connect(fleet.url, fleet.token);
}

describe('a guest that dials its host', () => {
  it('reaches the operator who listens, with half-close and back pressure of any stream', async () => {
    await using fleet = await startFakeFleet();
    await using hub = await operatorOf(fleet);
    await using guest = await fleet.startGuest({ generation: 4 });
    const listener = await subscribe(hub);
    const socket = await guest.dial(PORT);
    const connection = await listener.next();
    expect(connection.generation).toBe(4);
    const stream = await connection.accept();
    socket.end('from the guest');
    expect(await text(stream)).toBe('from the guest');
    stream.end('to the guest');
    expect(await text(socket)).toBe('to the guest');
  });

  it('carries 100 connections, each to its own stream', async () => {
    await using fleet = await startFakeFleet();
    await using hub = await operatorOf(fleet);
    await using guest = await fleet.startGuest();
    const listener = await subscribe(hub);
    const answers = Array.from({ length: 100 }, async (_, index) => {
      const socket = await guest.dial(PORT);
      socket.end(String(index));
      return text(socket);
    });
    for (let taken = 0; taken < 100; taken += 1) {
      const connection = await listener.next();
      void connection.accept().then(async (stream) => stream.end(`${await text(stream)}!`));
    }
    expect(await Promise.all(answers)).toEqual(Array.from({ length: 100 }, (_, index) => `${index}!`));
    await expect.poll(() => guest.streams.size).toBe(0);
  });

  it('is refused where nobody listens, before and after', async () => {
    await using fleet = await startFakeFleet();
    await using hub = await operatorOf(fleet);
    await using guest = await fleet.startGuest();
    await expect(guest.dial(PORT)).rejects.toMatchObject({ code: 'ENOENT' });
    const over = new AbortController();
    const { first } = await subscribe(hub, { signal: over.signal });
    (await guest.dial(PORT)).destroy();
    over.abort();
    await first;
    await expect
      .poll(() =>
        guest.dial(PORT).then(
          () => 'heard',
          () => 'refused',
        ),
      )
      .toBe('refused');
  });

  it('is reset when the one who listens does not take it in time, and cannot be taken then', async () => {
    await using fleet = await startFakeFleet({ acceptTimeoutMs: 50 });
    await using hub = await operatorOf(fleet);
    await using guest = await fleet.startGuest();
    const listener = await subscribe(hub);
    const socket = await guest.dial(PORT);
    const connection = await listener.next();
    await endOf(socket);
    await expect(connection.accept()).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('can be listened to by one at a time; another may take the place', async () => {
    await using fleet = await startFakeFleet();
    await using hub = await operatorOf(fleet);
    await using guest = await fleet.startGuest();
    const first = await subscribe(hub);
    await expect((await subscribe(hub)).first).rejects.toMatchObject({ code: 'CONFLICT' });
    const second = await subscribe(hub, { replace: true });
    await expect(first.first).rejects.toMatchObject({ message: expect.stringContaining('somebody else hears') });
    const socket = await guest.dial(PORT);
    answer(await (await second.next()).accept(), 'second');
    expect(await text(socket)).toBe('second');
  });

  it('is heard in its next life without asking again; what it had open ends with the last', async () => {
    await using fleet = await startFakeFleet();
    await using hub = await operatorOf(fleet);
    const listener = await subscribe(hub);
    const before = await fleet.startGuest({ generation: 1 });
    await before.dial(PORT);
    const old = await (await listener.next()).accept();
    const failed = new Promise((resolve) => old.once('error', resolve));
    await before[Symbol.asyncDispose]();
    expect(await failed).toMatchObject({ code: 'STREAM_RESET' });
    await using after = await fleet.startGuest({ generation: 2 });
    const socket = await after.dial(PORT);
    const next = await listener.next();
    expect(next.generation).toBe(2);
    answer(await next.accept(), 'again');
    expect(await text(socket)).toBe('again');
  });

  it('is heard through a line that breaks', async () => {
    await using fleet = await startFakeFleet();
    await using hub = await operatorOf(fleet);
    await using guest = await fleet.startGuest();
    const listener = await subscribe(hub);
    const cut = fleet.proxy.cutAfter(1);
    await Promise.all([cut, hub.call('hub.info', {}).catch(() => {})]);
    const socket = await guest.dial(PORT);
    answer(await (await listener.next()).accept(), 'still here');
    expect(await text(socket)).toBe('still here');
  });

  it('is not heard on its ready port, by VMs without a vsock, or once it is deleted', async () => {
    await using fleet = await startFakeFleet();
    await using hub = await operatorOf(fleet);
    const listenOn = (port: number) => hub.listen('web', port)[Symbol.asyncIterator]().next();
    await expect(listenOn(1023)).rejects.toMatchObject({ code: 'CONFLICT' });
    const { first } = await subscribe(hub);
    fleet.guestPorts.forget('web');
    await expect(first).rejects.toMatchObject({ message: expect.stringContaining('was deleted') });
    for (const info of fleet.vms.infos) info.spec = { ...info.spec, vsock: undefined };
    await expect(listenOn(PORT)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  it('has no more connections than the host allows to one guest', async () => {
    await using fleet = await startFakeFleet({ maxStreamsPerVm: 2 });
    await using hub = await operatorOf(fleet);
    await using guest = await fleet.startGuest();
    const listener = await subscribe(hub);
    await Promise.all([guest.dial(PORT), guest.dial(PORT)]);
    await listener.next();
    await listener.next();
    await endOf(await guest.dial(PORT));
    expect(guest.streams.size).toBe(2);
  });
});

describe('a service of the host', () => {
  it('gets what any guest dials on its port, and no operator can take the port', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'fl-service-'));
    const path = join(directory, 'sock');
    const server = createServer({ allowHalfOpen: true }, (socket) => void text(socket).then((said) => socket.end(`got ${said}`)));
    await new Promise<void>((resolve) => server.listen(path, resolve));
    try {
      const service = parseGuestService(`${PORT}=unix:${path}`);
      await using fleet = await startFakeFleet({ services: service === undefined ? [] : [service] });
      await using hub = await operatorOf(fleet);
      await using guest = await fleet.startGuest();
      const socket = await guest.dial(PORT);
      socket.end('this');
      expect(await text(socket)).toBe('got this');
      await expect((await subscribe(hub)).first).rejects.toMatchObject({ code: 'CONFLICT' });
      server.close();
      await rm(path, { force: true });
      await endOf(await guest.dial(PORT));
      await expect.poll(() => guest.streams.size).toBe(0);
    } finally {
      server.close();
      await rm(directory, { recursive: true, force: true });
    }
  });

  it.each(['9000', '9000=unix:relative', '9000=tcp:nowhere', '9000=tcp:host:0', '4294967295=unix:/x', 'x=unix:/x', '1=ftp:/x'])(
    'is not %s',
    (written) => expect(parseGuestService(written)).toBeUndefined(),
  );
});
