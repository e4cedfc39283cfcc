/**
 * A program that calls as soon as its stream takes more: its text left at once, and took the next chunk of the stream along, before the
 * message that was being made with the one before it.
 */
import { expect, it } from 'vitest';
import { Line } from '../../shared/line/line.ts';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { memorySockets } from '../support/memory-socket.ts';

const HELLO = { contract: 1, software: 'test/1', role: 'agent' } as const;
const CHUNK_BYTES = 64 * 1024;
const CHUNKS = 16;

it('a call that is made when a stream has drained leaves the order of its bytes alone', async () => {
  const [near, far] = memorySockets();
  const got: Uint8Array[] = [];
  let missingBytes = CHUNKS * CHUNK_BYTES;
  const whole = Promise.withResolvers<void>();
  let taken: MuxChannel | undefined;
  const acceptor: Line = new Line({
    socket: far,
    role: 'acceptor',
    hello: HELLO,
    handlers: {
      onRequest: () => Promise.resolve({}),
      onOpen: (stream) => {
        taken = MuxChannel.accept(acceptor.mux, stream, {});
        const onReadable = (): void => {
          for (let chunk = taken?.read(); chunk !== undefined; chunk = taken?.read()) {
            got.push(chunk);
            missingBytes -= chunk.length;
          }
          if (missingBytes <= 0) whole.resolve();
        };
        queueMicrotask(() => taken?.attach({ onReadable, onDrain() {}, onClose() {} }));
      },
    },
  });
  const dialer = new Line({ socket: near, role: 'dialer', hello: HELLO, handlers: { onRequest: () => Promise.resolve({}) } });
  await dialer.ready;
  const bulk = await MuxChannel.open(dialer.mux, {});
  const answers: Promise<unknown>[] = [];
  bulk.attach({ onReadable() {}, onDrain: () => answers.push(dialer.peer.call('vm.list', {})), onClose() {} });
  const written = Array.from({ length: CHUNKS }, (_, chunk) => new Uint8Array(CHUNK_BYTES).fill(chunk));
  for (const chunk of written) bulk.write(chunk);
  await Promise.race([whole.promise, acceptor.closed]);
  expect(acceptor.mux.closedWith).toBeUndefined();
  expect(answers.length).toBeGreaterThan(0);
  await Promise.all(answers);
  expect(Buffer.concat(got).equals(Buffer.concat(written))).toBe(true);
  dialer.close();
});
