/**
 * The launcher's record over any course of events: releases that are healthy, crash or hang, disks that refuse, and crashes between any two
 * steps. What is on disk is all that the next launcher has.
 */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  begin,
  crashed,
  FIRST_RECORD,
  fail,
  keep,
  type LauncherRecord,
  MAX_CRASHES,
  parseRecord,
  stage,
  type Update,
  wasOfUse,
} from '../../agent/launcher/record.ts';

const AT = '2026-01-01T00:00:00.000Z';

const event = fc.oneof(
  fc.record({ kind: fc.constant('stage' as const), release: fc.constantFrom('installed', 'sha256:a', 'sha256:b', 'sha256:c') }),
  fc.record({ kind: fc.constantFrom('ends' as const, 'healthy' as const, 'late' as const, 'host crashes' as const) }),
  fc.record({ kind: fc.constantFrom('crashes' as const, 'is of use' as const) }),
  fc.record({ kind: fc.constantFrom('next write is lost' as const) }),
);

/** A launcher, as launcher.ts drives the functions of record.ts, on a disk of one file. */
class World {
  disk = JSON.stringify(FIRST_RECORD);
  memory: LauncherRecord = FIRST_RECORD;
  runs = '';
  isTrial = false;
  /** Releases that were healthy once, on trial or because they were there from the first. */
  readonly proved = new Set(['installed']);
  readonly begun: string[] = [];
  loses = false;
  ids = 0;

  constructor() {
    this.start();
  }

  start(): void {
    const next = begin(this.memory, AT);
    if (next.record !== this.memory && !this.write(next.record) && next.isTrial) {
      this.memory = fail(this.memory, 'no disk', AT);
      return this.start();
    }
    this.memory = next.record;
    this.runs = next.release;
    this.isTrial = next.isTrial;
    this.begun.push(next.release);
  }

  /** The host stops: all that is left is on disk. */
  crash(): void {
    this.memory = parseRecord(this.disk) ?? FIRST_RECORD;
    this.start();
  }

  write(record: LauncherRecord): boolean {
    const isLost = this.loses;
    this.loses = false;
    if (isLost) return false;
    this.disk = JSON.stringify(record);
    this.memory = record;
    return true;
  }

  /** The id of an update that was taken. */
  stage(release: string): string | undefined {
    const update: Update = { id: `c${++this.ids}`, release, healthTimeoutMs: 1000, brokenVms: [] };
    const staged = stage(this.memory, update);
    return typeof staged !== 'string' && this.write(staged) ? update.id : undefined;
  }

  failTrial(): void {
    const failed = fail(this.memory, 'it was bad', AT);
    this.write(failed);
    this.memory = failed;
    this.start();
  }

  keep(): void {
    if (!this.isTrial || this.memory.update?.stage !== 'trying') return;
    const kept = keep(this.memory, AT);
    if (!this.write(kept)) return this.failTrial();
    this.proved.add(this.runs);
    this.isTrial = false;
  }

  /** What runs ends by itself or is killed. */
  end(): void {
    if (this.isTrial && this.memory.update?.stage === 'trying') this.failTrial();
    else this.start();
  }

  /** It crashes before it was of use. */
  crashByItself(): void {
    if (this.memory.update === undefined) {
      const counted = crashed(this.memory, 'it crashed', AT);
      this.write(counted);
      this.memory = counted;
    }
    this.end();
  }

  beOfUse(): void {
    this.write(wasOfUse(this.memory));
  }
}

describe('the record of a launcher', () => {
  it('leads back to a release that has proved itself, and gives each update one outcome, whatever happens between', () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 40 }), (events) => {
        const world = new World();
        const taken: string[] = [];
        for (const { kind, ...more } of events) {
          if (kind === 'next write is lost') world.loses = true;
          if (kind === 'stage' && 'release' in more && !world.isTrial)
            taken.push(...[world.stage(more.release)].filter((id) => id !== undefined));
          if (kind === 'healthy') world.keep();
          if (kind === 'ends') world.end();
          if (kind === 'crashes') world.crashByItself();
          if (kind === 'is of use') world.beOfUse();
          if (kind === 'late' && world.isTrial) world.failTrial();
          if (kind === 'host crashes') world.crash();
          // Settled is only what was healthy; whatever else runs is on trial.
          expect(world.proved).toContain(world.memory.current);
          expect(world.isTrial ? [world.memory.update?.stage, world.memory.update?.release] : world.runs).toEqual(
            world.isTrial ? ['trying', world.runs] : world.memory.current,
          );
        }
        world.loses = false;
        // Everything comes to rest, if only by starting anew twice: a trial is tried once.
        world.crash();
        world.crash();
        expect(world.memory.update).toBeUndefined();
        const { outcomes } = world.memory;
        expect(new Set(outcomes.map(({ id }) => id)).size).toBe(outcomes.length);
        expect(taken.slice(-outcomes.length)).toEqual(outcomes.map(({ id }) => id));
        expect(JSON.parse(world.disk)).toEqual(world.memory);
      }),
      { numRuns: 2000 },
    );
  });

  it('tries a release once for each time that it is asked for', () => {
    const world = new World();
    world.stage('sha256:a');
    world.crash();
    world.crash();
    world.crash();
    expect(world.begun).toEqual(['installed', 'sha256:a', 'installed', 'installed']);
  });

  it('leaves a release for the one before when it has crashed so often in a row, and does not take turns with that one', () => {
    const world = new World();
    world.stage('sha256:a');
    world.end();
    world.keep();
    for (let n = 1; n < MAX_CRASHES; n++) world.crashByItself();
    world.beOfUse();
    for (let n = 1; n < MAX_CRASHES; n++) world.crashByItself();
    // The host or the launcher began anew meanwhile.
    world.crash();
    expect([world.runs, world.memory.crashes]).toEqual(['sha256:a', MAX_CRASHES - 1]);
    world.crashByItself();
    expect(world.memory).toMatchObject({
      current: 'installed',
      fallback: { release: 'sha256:a', failure: 'it crashed', at: AT },
    });
    for (let n = 1; n <= 2 * MAX_CRASHES; n++) world.crashByItself();
    expect([world.runs, world.memory.crashes]).toEqual(['installed', 2 * MAX_CRASHES]);
    world.stage('sha256:a');
    world.end();
    world.keep();
    expect(world.memory).toEqual({ current: 'sha256:a', previous: 'installed', outcomes: world.memory.outcomes });
  });

  it('refuses a second update beside the first, and one to what runs', () => {
    const update: Update = { id: 'c1', release: 'sha256:a', healthTimeoutMs: 1, brokenVms: [] };
    const staged = stage(FIRST_RECORD, update);
    expect(typeof staged === 'string' ? staged : stage(staged, { ...update, id: 'c2' })).toMatch(/under way/);
    expect(stage(FIRST_RECORD, { ...update, release: 'installed' })).toMatch(/runs already/);
  });

  it('is none where the text is damaged', () => {
    expect(['', '{', '[]', '{"current":1}', 'null'].map(parseRecord)).toEqual(Array.from({ length: 5 }, () => undefined));
  });
});
