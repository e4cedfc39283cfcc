/**
 * What the journal once held and holds no more although its day is not over, as far as a command id can be told to be of it.
 *
 *     loss        damage: records of a stretch of time cannot be read
 *     forgotten   lack of room: commands that had ended left early, up to the newest time that an id of theirs tells
 *
 * Either way the command may have run, and must not run again. Both are records of the journal themselves and move with its living ones, so
 * that they outlive the files that they speak of, and end when what they speak of would have left by itself.
 */
import { timeOfCommandId } from '../../shared/command-id.ts';
import type { Entry } from './entries.ts';
import type { Loss, Place, StoredRecord } from './recovery.ts';

/** Why nothing is known of a command. */
export type Absence = 'damage' | 'lack-of-room';

export interface Forgotten {
  /** The newest time that the id of a forgotten command tells, unix milliseconds; 0 for none. */
  readonly upToMs: number;
  /** From here on nobody needs to know any more. */
  readonly untilMs: number;
  /** The same for ids that tell no time; 0 when none was forgotten. */
  readonly timelessUntilMs: number;
}

/** A record of the journal that is no command. Without a place it is not written yet. */
export interface Note {
  readonly value: Readonly<Record<string, unknown>>;
  place: Place | undefined;
}

interface LossNote extends Note {
  readonly loss: Loss;
}

interface ForgottenNote extends Note {
  readonly forgotten: Forgotten;
}

/** How far the clock that a command id was made by may be from this host's. */
const CLOCK_SKEW_MS = 5 * 60_000;

const NOTHING: Forgotten = { upToMs: 0, untilMs: 0, timelessUntilMs: 0 };

export class Gone {
  readonly #keepMs: number;
  #losses: LossNote[] = [];
  #forgotten: ForgottenNote | undefined;

  /** `losses`: found in the files as they are now. */
  constructor(keepMs: number, losses: readonly Loss[], records: readonly StoredRecord[]) {
    this.#keepMs = keepMs;
    for (const { kind, value, place } of records) {
      // SAFETY: what has its checksum was written by an agent, in this form.
      if (kind === 'loss') this.#addLoss(value as unknown as Loss, place);
      // SAFETY: likewise.
      if (kind === 'forgotten') this.noted(value as unknown as Forgotten, place);
    }
    for (const loss of losses) this.#addLoss(loss, undefined);
  }

  /**
   * Whether a command that the journal does not know, or knows as it was at `asOfMs`, may have run all the same. The time of an id that is
   * no UUID of version 7 is not known, so it may have been any.
   */
  absenceOf(id: string, nowMs: number, asOfMs?: number): Absence | undefined {
    const madeMs = timeOfCommandId(id);
    if (this.#losses.some(({ loss }) => this.#mayBeLost(loss, madeMs, nowMs, asOfMs))) return 'damage';
    // What is known was not forgotten: the newest record of a command is the last to go.
    if (asOfMs !== undefined || this.#forgotten === undefined) return undefined;
    const { upToMs, untilMs, timelessUntilMs } = this.#forgotten.forgotten;
    const mayBeForgotten = madeMs === undefined ? nowMs <= timelessUntilMs : madeMs <= upToMs && nowMs <= untilMs;
    return mayBeForgotten ? 'lack-of-room' : undefined;
  }

  /** What is to be written down before these are forgotten: all that was forgotten earlier, and them. */
  including(entries: readonly Entry[], nowMs: number): Forgotten {
    const times = entries.map(({ summary }) => timeOfCommandId(summary.id));
    const before = this.#forgotten?.forgotten ?? NOTHING;
    const untilMs = nowMs + this.#keepMs;
    return {
      upToMs: times.reduce<number>((last, ms) => Math.max(last, ms ?? 0), before.upToMs),
      untilMs,
      timelessUntilMs: times.includes(undefined) ? untilMs : before.timelessUntilMs,
    };
  }

  /** It is durable, there. */
  noted(forgotten: Forgotten, place: Place): void {
    this.#forgotten = { forgotten, value: { kind: 'forgotten', ...forgotten }, place };
  }

  /** All that must not go with this file. */
  notesIn(segment: number): Note[] {
    const losses = this.#losses.filter(({ loss, place }) => (place?.segment ?? loss.segment) === segment);
    return this.#forgotten?.place?.segment === segment ? [...losses, this.#forgotten] : losses;
  }

  /** Drops what nobody needs to know any more. */
  expire(nowMs: number): void {
    this.#losses = this.#losses.filter(({ loss }) => loss.toMs + this.#keepMs >= nowMs);
    if (this.#forgotten !== undefined && this.#forgotten.forgotten.untilMs < nowMs) this.#forgotten = undefined;
  }

  #addLoss({ segment, offset, bytes, fromMs, toMs }: Loss, place: Place | undefined): void {
    // A crash between its note and the removal of its file leaves both.
    const known = this.#losses.find(({ loss }) => loss.segment === segment && loss.offset === offset);
    if (known !== undefined) {
      known.place = place ?? known.place;
      return;
    }
    const loss = { segment, offset, bytes, fromMs, toMs };
    this.#losses.push({ loss, value: { kind: 'loss', ...loss }, place });
  }

  #mayBeLost({ fromMs, toMs }: Loss, madeMs: number | undefined, nowMs: number, asOfMs: number | undefined): boolean {
    if (toMs + this.#keepMs < nowMs) return false;
    if (asOfMs !== undefined) return asOfMs <= toMs + CLOCK_SKEW_MS;
    return madeMs === undefined || (madeMs >= fromMs - this.#keepMs && madeMs <= toMs + CLOCK_SKEW_MS);
  }
}
