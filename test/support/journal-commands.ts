/** Commands as a journal keeps them, and a journal to keep them in. */
import { Journal, type JournalOptions } from '../../agent/journal/journal.ts';
import { timeOfCommandId } from '../../shared/command-id.ts';
import type { Operation } from '../../shared/protocol/methods-operation.ts';
import { journalObserver, MemoryFiles } from './journal-files.ts';
import { silent } from './vm.ts';

export const HOUR_MS = 3_600_000;
export const START_MS = Date.parse('2026-01-01T00:00:00Z');

export function accepted(id: string, more: Partial<Operation> = {}): Operation {
  return {
    id,
    method: 'vm.stop',
    host: 'edge-1',
    vm: 'web',
    state: 'accepted',
    acceptedAt: new Date(timeOfCommandId(id) ?? START_MS).toISOString(),
    paramsDigest: '0'.repeat(64),
    attempts: 1,
    ...more,
  };
}

export function done(id: string, more: Partial<Operation> = {}): Operation {
  return accepted(id, { state: 'done', endedAt: new Date(START_MS).toISOString(), result: { n: id }, ...more });
}

/** A journal on a disk of its own, with a clock that the test sets. */
export function journalOf(limits: JournalOptions['limits'] = {}, files = new MemoryFiles()) {
  const { observer, told } = journalObserver();
  const clock = { nowMs: START_MS };
  const open = (on = files) => new Journal({ files: on, observer, logger: silent, limits, now: () => clock.nowMs });
  return { journal: open(), files, told, clock, open };
}

/** A full life: accepted and done. */
export async function live(journal: Journal, id: string, more: Partial<Operation> = {}): Promise<void> {
  await journal.accept(accepted(id, { actor: more.actor }));
  await journal.finish(done(id, more));
}
