/** A session with a server that sends anything at all, cut anywhere. */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { QmpClient } from '../../agent/qmp/client.ts';
import { isFairleadError } from '../../shared/errors.ts';
import { eventOf, type FakeCommand, GREETING, startFakeQmp } from '../support/fake-qmp.ts';

const COMMANDS = 4;
/** What a command may end with when its server does as it likes. */
const ENDS = ['returned', 'QMP_FAILED', 'INTERRUPTED'];

const id = fc.oneof(fc.integer({ min: 0, max: COMMANDS + 2 }), fc.jsonValue());
const message = fc.oneof(
  fc.record({ return: fc.jsonValue(), id }),
  fc.record({ error: fc.record({ class: fc.string(), desc: fc.string() }), id }),
  fc.record({ event: fc.constantFrom('STOP', 'X'), timestamp: fc.record({ seconds: fc.integer(), microseconds: fc.integer() }) }),
  fc.constantFrom({ return: {} }, { error: {} }, { event: 1 }, GREETING, [], 1, null),
  fc.jsonValue(),
);
const wire = fc.oneof(
  { weight: 5, arbitrary: message.map((each) => Buffer.from(`${JSON.stringify(each)}\r\n`)) },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes)) },
);

test('whatever a server sends after its greeting, every command settles and the session ends or goes on', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(wire, { maxLength: 12 }), fc.nat({ max: 64 }), async (messages, chunkBytes) => {
      await using fake = await startFakeQmp(async (peer) => {
        await peer.negotiate();
        const commands: FakeCommand[] = [];
        for (let n = 0; n < COMMANDS; n++) commands.push(await peer.receive());
        const bytes = Buffer.concat(messages);
        const size = Math.max(1, chunkBytes);
        for (let at = 0; at < bytes.length; at += size) peer.write(bytes.subarray(at, at + size));
        peer.end();
      });
      await using client = await QmpClient.connect({ path: fake.path });
      const ends = await Promise.all(
        Array.from({ length: COMMANDS }, async () => client.execute('query-status').then(() => 'returned', codeOf)),
      );
      expect(ends.filter((end) => !ENDS.includes(end))).toEqual([]);
      expect((await client.closed).code).toMatch(/^(INTERRUPTED|PROTOCOL_ERROR)$/);
    }),
    { numRuns: 60 },
  );
});

test('events and replies in any order and any chunks reach each the one who waits for it', async () => {
  const order = fc.shuffledSubarray(
    Array.from({ length: COMMANDS }, (_, index) => index),
    { minLength: COMMANDS, maxLength: COMMANDS },
  );
  await fc.assert(
    fc.asyncProperty(
      order,
      fc.array(fc.boolean(), { minLength: COMMANDS, maxLength: COMMANDS }),
      fc.integer({ min: 1, max: 80 }),
      async (answers, withEvent, size) => {
        await using fake = await startFakeQmp(async (peer) => {
          await peer.negotiate();
          const commands: FakeCommand[] = [];
          for (let n = 0; n < COMMANDS; n++) commands.push(await peer.receive());
          const lines = answers.flatMap((index) => [
            ...(withEvent[index] === true ? [eventOf('STOP', { of: index })] : []),
            { return: { of: commands[index]?.execute }, id: commands[index]?.id },
          ]);
          const bytes = Buffer.from(lines.map((line) => `${JSON.stringify(line)}\r\n`).join(''));
          for (let at = 0; at < bytes.length; at += size) peer.write(bytes.subarray(at, at + size));
        });
        await using client = await QmpClient.connect({ path: fake.path });
        using events = client.listen({ names: ['STOP'] });
        const replies = await Promise.all(Array.from({ length: COMMANDS }, (_, index) => client.execute(`command-${index}`)));
        expect(replies).toEqual(Array.from({ length: COMMANDS }, (_, index) => ({ of: `command-${index}` })));
        const expected = answers.filter((index) => withEvent[index] === true);
        const heard = await Promise.all(expected.map(() => events.take()));
        expect(heard.map(({ data }) => data['of'])).toEqual(expected);
      },
    ),
    { numRuns: 60 },
  );
});

function codeOf(error: unknown): string {
  return isFairleadError(error) ? error.code : String(error);
}
