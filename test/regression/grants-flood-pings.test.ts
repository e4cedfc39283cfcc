/** An end that only reads sends nothing but credit. It asked whether that had been read, and was cut for asking too often. */
import { expect, it } from 'vitest';
import { Line } from '../../shared/line/line.ts';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { memorySockets } from '../support/memory-socket.ts';

const WINDOW_BYTES = 2048;
/** A grant for each window is 24 bytes, and 16 KiB of them were worth a question. */
const GRANTS = 50_000;

it('an end that reads much and writes nothing is not cut for asking', { timeout: 60_000 }, async () => {
  const clock = new FakeClock();
  const [near, far] = memorySockets();
  const options = {
    hello: { contract: 1, software: 'test/1', role: 'agent' },
    limits: { mux: { initialWindowBytes: WINDOW_BYTES, maxStreamWindowBytes: WINDOW_BYTES } },
    clock,
  } as const;
  const refuse = async (): Promise<never> => Promise.reject(new Error('nobody calls'));
  const accepted = Promise.withResolvers<MuxChannel>();
  const writer = new Line({ ...options, socket: near, role: 'dialer', handlers: { onRequest: refuse } });
  const reader: Line = new Line({
    ...options,
    socket: far,
    role: 'acceptor',
    handlers: {
      onRequest: refuse,
      onOpen: (stream) => accepted.resolve(MuxChannel.accept(reader.mux, stream, {})),
    },
  });
  await Promise.all([writer.ready, reader.ready]);
  const out = await MuxChannel.open(writer.mux, {});
  const into = await accepted.promise;

  const wantedBytes = GRANTS * WINDOW_BYTES;
  let readBytes = 0;
  const over = Promise.withResolvers<void>();
  const piece = new Uint8Array(WINDOW_BYTES);
  const write = (): void => {
    let goesOn = true;
    while (goesOn) goesOn = readBytes < wantedBytes && out.write(piece);
  };
  out.attach({ onReadable: () => {}, onDrain: write, onClose: () => over.resolve() });
  into.attach({
    onReadable: () => {
      for (let chunk = into.read(); chunk !== undefined; chunk = into.read()) readBytes += chunk.length;
      if (readBytes >= wantedBytes) over.resolve();
    },
    onDrain: () => {},
    onClose: () => over.resolve(),
  });
  write();
  await over.promise;
  expect(writer.mux.closedWith).toBeUndefined();
  expect(readBytes).toBeGreaterThanOrEqual(wantedBytes);
});
