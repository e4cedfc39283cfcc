/**
 * A journal that is too small for its commands: it refuses none while one that has ended can be forgotten, keeps within its bounds, and
 * knows of all that is gone, whenever it crashes.
 */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Journal } from '../../agent/journal/journal.ts';
import { newCommandId } from '../../shared/command-id.ts';
import type { Operation } from '../../shared/protocol/methods-operation.ts';
import { accepted, START_MS } from '../support/journal-commands.ts';
import { journalObserver, MemoryFiles } from '../support/journal-files.ts';
import { silent } from '../support/vm.ts';

/** What becomes of commands in a journal with little room: a new one of some actor begins, or the oldest of those under way ends. */
interface Move {
  readonly begins: boolean;
  /** Most are of one. */
  readonly actor: 'noisy' | 'quiet';
  readonly isTimeless: boolean;
  readonly resultBytes: number;
  /** The next moves are of another agent: this one was ended. */
  readonly isRestart: boolean;
}

const move: fc.Arbitrary<Move> = fc.record({
  begins: fc.boolean(),
  actor: fc.oneof(
    { weight: 9, arbitrary: fc.constant('noisy' as const) },
    { weight: 1, arbitrary: fc.constant('quiet' as const) },
  ),
  isTimeless: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
  resultBytes: fc.oneof({ weight: 4, arbitrary: fc.nat(50) }, { weight: 1, arbitrary: fc.nat(1_500) }),
  isRestart: fc.oneof({ weight: 19, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
});

const SMALL = { maxOperations: 16, maxBytes: 16_000, segmentBytes: 1_000 };
const MAX_UNDER_WAY = 5;

/** A journal that is too small for its commands, and what was told of them. */
class CrowdedJournal {
  readonly files = new MemoryFiles();
  readonly told = new Map<string, 'accepted' | 'done'>();
  readonly underWay: Operation[] = [];
  forgotten = 0;
  #nowMs = START_MS;
  #journal = this.open();

  get usage() {
    return this.#journal.usage;
  }

  open(files = this.files): Journal {
    const { observer } = journalObserver();
    const forgot = (commands: number): void => void (this.forgotten += commands);
    return new Journal({ files, observer: { ...observer, forgot }, logger: silent, limits: SMALL, now: () => this.#nowMs });
  }

  close(): Promise<void> {
    return this.#journal.close();
  }

  /** Whether a command began. */
  async make(move: Move, number: number): Promise<boolean> {
    this.#nowMs += 1_000;
    if (move.isRestart) {
      await this.#journal.close();
      this.#journal = this.open();
    }
    const begins = this.underWay.length < MAX_UNDER_WAY && (move.begins || this.underWay.length === 0);
    await (begins ? this.#begin(move, number) : this.#end(move));
    return begins;
  }

  /** What a later agent would get wrong of the commands that were told. */
  async mistakesOn(disk: MemoryFiles, told: ReadonlyMap<string, 'accepted' | 'done'>): Promise<string[]> {
    const later = this.open(disk);
    const mistakes: string[] = [];
    for (const [id, state] of told) {
      // What was under way may have ended without anybody having been told.
      const right = state === 'done' ? ['done', 'lack-of-room'] : ['accepted', 'done'];
      const found = (await later.find(id))?.state ?? (await later.absenceOf(id)) ?? 'never heard of';
      if (!right.includes(found)) mistakes.push(`${id} was ${state}, and is ${found}`);
    }
    const fresh = await later.absenceOf(newCommandId(this.#nowMs + 1_000));
    return fresh === undefined ? mistakes : [...mistakes, `one that nobody has given yet is gone: ${fresh}`];
  }

  async #begin({ actor, isTimeless }: Move, number: number): Promise<void> {
    const id = isTimeless ? `own-${number}` : newCommandId(this.#nowMs);
    const command = accepted(id, { actor, acceptedAt: this.#at() });
    await this.#journal.accept(command);
    this.told.set(id, 'accepted');
    this.underWay.push(command);
  }

  async #end({ resultBytes }: Move): Promise<void> {
    const [command] = this.underWay;
    if (command === undefined) return;
    await this.#journal.finish({ ...command, state: 'done', endedAt: this.#at(), result: 'x'.repeat(resultBytes) });
    this.underWay.shift();
    this.told.set(command.id, 'done');
  }

  #at(): string {
    return new Date(this.#nowMs).toISOString();
  }
}

describe('a journal with too little room', () => {
  const moves = fc.array(move, { minLength: 60, maxLength: 160 });

  it('refuses nothing while something has ended, keeps within its bounds, and knows of all that is gone', async () => {
    let forgotten = 0;
    await fc.assert(
      fc.asyncProperty(moves, async (moves) => {
        const crowded = new CrowdedJournal();
        for (const [number, move] of moves.entries()) {
          const hasBegun = await crowded.make(move, number);
          // What was under way may still end, and the file that is being written takes one record more.
          // What a later agent finds in files that it has not written anew yet is more until the next command.
          expect(hasBegun ? crowded.usage.operations : 0).toBeLessThanOrEqual(SMALL.maxOperations);
          expect(crowded.usage.bytes).toBeLessThan(SMALL.maxBytes + MAX_UNDER_WAY * 2_500);
        }
        await crowded.close();
        expect(await crowded.mistakesOn(crowded.files, crowded.told)).toEqual([]);
        forgotten += crowded.forgotten;
      }),
      { numRuns: 60 },
    );
    expect(forgotten).toBeGreaterThan(1_000);
  });

  it('does so after a crash at any operation of its files', async () => {
    await fc.assert(
      fc.asyncProperty(
        moves,
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true })),
        async (moves, when, shares) => {
          let operations = 0;
          const counted = new CrowdedJournal();
          counted.files.before = () => void (operations += 1);
          for (const [number, move] of moves.entries()) await counted.make(move, number);

          const crashed = new CrowdedJournal();
          let rest = Math.floor(when * operations);
          let left: { disk: MemoryFiles; told: Map<string, 'accepted' | 'done'> } | undefined;
          crashed.files.before = () => {
            if (rest-- !== 0) return;
            left = { disk: crashed.files.crash(() => shares.next().value ?? 0), told: new Map(crashed.told) };
          };
          for (const [number, move] of moves.entries()) await crashed.make(move, number);
          expect(left === undefined ? [] : await crashed.mistakesOn(left.disk, left.told)).toEqual([]);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('forgets nothing of who has given few, whatever another gives', async () => {
    await fc.assert(
      fc.asyncProperty(moves, async (moves) => {
        const crowded = new CrowdedJournal();
        const quiet: string[] = [];
        for (const [number, move] of moves.entries()) {
          const actor = quiet.length < 3 ? move.actor : 'noisy';
          const before = new Set(crowded.told.keys());
          await crowded.make({ ...move, actor, resultBytes: 0 }, number);
          if (actor === 'quiet') quiet.push(...[...crowded.told.keys()].filter((id) => !before.has(id)));
        }
        await crowded.close();
        const later = crowded.open();
        for (const id of quiet) expect((await later.find(id))?.id).toBe(id);
      }),
      { numRuns: 60 },
    );
  });
});
