/** The commands that the hub keeps: room for each actor. */
import { expect, it } from 'vitest';
import { CommandBook } from '../../hub/commands/command-book.ts';
import { keptCommand } from '../../hub/commands/kept-command.ts';
import { openSqliteStore } from '../../hub/store/sqlite-store.ts';

const MOST_OF_ONE = 10_000;

it('an actor whose commands wait without end for hosts that are away leaves room for those of others', async () => {
  const store = openSqliteStore(':memory:');
  const book = await CommandBook.open({ store, maxEnded: 10, now: () => 0, onFault: () => {} });
  const add = (actor: string, id: string) => {
    const command = { id, host: 'away', method: 'vm.stop', params: { vm: 'web' }, actor, whenOffline: 'queue' } as const;
    return book.add(keptCommand({ ...command, timeoutMs: undefined }, 'queued', 0));
  };
  await Promise.all(Array.from({ length: MOST_OF_ONE }, (_, n) => add('mallory', `m${n}`)));
  await expect(add('mallory', 'm')).rejects.toMatchObject({
    code: 'LIMIT_EXCEEDED',
    message: expect.stringContaining(`${MOST_OF_ONE} commands of mallory wait`),
  });
  await add('alice', 'a');
  expect(book.get('a')).toBeDefined();
  await store.close();
});
