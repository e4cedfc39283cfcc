/**
 * A program that runs in a guest ends by WRONG_STATE when its VM does. A full journal took that for a refusal that had done nothing and
 * dropped it without a note, so that a repeat would have run the program a second time.
 */
import { expect, it } from 'vitest';
import { newCommandId } from '../../shared/command-id.ts';
import { journalOf, live } from '../support/journal-commands.ts';

const VM = { uuid: '00000000-0000-0000-0000-000000000000', generation: 1 } as const;
const FAILED = { state: 'failed', result: undefined, error: { code: 'WRONG_STATE', message: 'no' } } as const;

it('what ended by the end of its VM is not forgotten by a full journal without a note', async () => {
  const { journal, clock, open } = journalOf({ maxOperations: 3 });
  const next = () => newCommandId((clock.nowMs += 1_000));
  const [ran, refused] = [next(), next()];
  await live(journal, ran, { ...FAILED, before: { ...VM, state: 'running' }, after: { ...VM, state: 'stopped' } });
  await live(journal, refused, { ...FAILED, before: { ...VM, state: 'stopped' }, after: { ...VM, state: 'stopped' } });
  await live(journal, next());
  await live(journal, next());
  for (const one of [journal, open()]) expect((await one.find(ran)) ?? (await one.absenceOf(ran))).toBeDefined();
  expect(await journal.find(refused)).toBeUndefined();
});
