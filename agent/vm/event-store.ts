/**
 * The event log on disk, so that a watcher goes on where it was after a restart of the agent:
 *
 *     STATE/events/FIRST.jsonl     {"version":1,"epoch":…,"bootId":…,"first":FIRST}, then one event a line
 *
 * A file has room for `capacity` numbers, from its first, and they are its own: the file is durable, by name too, before one of them is
 * given away. Before them it has the events of lower numbers that the log still had when it was begun. So no number ever comes twice, although single events are not fsynced: after `kill -9` of the agent the next one goes on
 * after the last event written, which the kernel has; after a restart of the host, or behind a line that is torn, it goes on after the
 * last number that the file has room for. The file before is kept for the case that the newest is torn, older ones are removed.
 *
 * A disk that does not take an event is told of once; the events go on in memory, the files are removed, and the next agent begins a new
 * epoch, since nobody knows then which numbers were given away.
 */
import { randomUUID } from 'node:crypto';
import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { toFairleadError } from '../../shared/errors.ts';
import { Count } from '../../shared/protocol/common.ts';
import { VmEvent } from '../../shared/protocol/vm-events.ts';
import type { Logger } from './api.ts';
import type { SeqRange } from './events.ts';

const Header = v.strictObject({
  version: v.literal(1),
  epoch: v.string(),
  bootId: v.string(),
  first: v.pipe(Count, v.minValue(1)),
});
type Header = v.InferOutput<typeof Header>;

interface Segment {
  readonly header: Header;
  readonly events: readonly VmEvent[];
  /** Whether it was read to its end without a line missing. */
  readonly isIntact: boolean;
}

export interface EventStoreOptions {
  readonly directory: string;
  readonly bootId: string;
  /** Numbers a file. */
  readonly capacity: number;
  readonly logger: Logger;
}

export class EventStore implements Disposable {
  readonly epoch: string;
  /** What was found, the oldest first. */
  readonly events: readonly VmEvent[];
  /** The last number that may have been given away. */
  readonly lastSeq: number;
  readonly unused: readonly SeqRange[];
  readonly #options: EventStoreOptions;
  #fd: number | undefined;
  /** Numbers from here on belong to the next file. */
  #end: number;

  /** @throws what the file system throws when the directory cannot be made or written. */
  constructor(options: EventStoreOptions) {
    const { directory, bootId, capacity } = options;
    this.#options = options;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const [last, before] = readSegments(directory);
    // Files of another epoch would be taken for newer ones by their numbers.
    if (last === undefined) removeSegments(directory);
    this.epoch = last?.header.epoch ?? randomUUID();
    const older = before?.header.epoch === this.epoch ? before : undefined;
    this.events = united(older?.events ?? [], last?.events ?? []);
    this.#end = last === undefined ? 1 : last.header.first + capacity;
    const written = last === undefined ? 0 : lastWritten(last);
    const goesOn = last !== undefined && last.isIntact && last.header.bootId === bootId && written < this.#end;
    this.lastSeq = goesOn ? written : this.#end - 1;
    const passedOver: SeqRange[] = [[written + 1, this.lastSeq]];
    if (older !== undefined && last !== undefined) passedOver.push([lastWritten(older) + 1, last.header.first - 1]);
    this.unused = passedOver.filter(([first, end]) => first <= end);
    if (goesOn) this.#fd = openSync(pathOf(directory, last.header.first), 'a', 0o600);
    else this.#begin(this.#end, this.events);
  }

  [Symbol.dispose](): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  /** Never throws. */
  append(event: VmEvent, kept: readonly VmEvent[]): void {
    if (this.#fd === undefined) return;
    try {
      if (event.seq >= this.#end)
        this.#begin(
          event.seq,
          kept.filter(({ seq }) => seq < event.seq),
        );
      writeWhole(this.#fd, `${JSON.stringify(event)}\n`);
    } catch (error) {
      this.#giveUp(error);
    }
  }

  #begin(first: number, kept: readonly VmEvent[]): void {
    const { directory, bootId, capacity } = this.#options;
    this[Symbol.dispose]();
    const fd = openSync(pathOf(directory, first), 'w', 0o600);
    this.#fd = fd;
    const header = { version: 1, epoch: this.epoch, bootId, first } satisfies Header;
    writeWhole(fd, [header, ...kept].map((line) => `${JSON.stringify(line)}\n`).join(''));
    fsyncSync(fd);
    syncDirectory(directory);
    this.#end = first + capacity;
    removeSegments(directory, 2);
  }

  #giveUp(error: unknown): void {
    const { directory, logger } = this.#options;
    this[Symbol.dispose]();
    const reason = toFairleadError(error).message;
    logger.error({ directory, reason }, 'VM events are not kept over a restart of the agent: the disk does not take them');
    try {
      removeSegments(directory);
    } catch (failure) {
      logger.error({ directory, reason: toFairleadError(failure).message }, 'could not remove the event log');
    }
  }
}

/** All but the newest. */
function removeSegments(directory: string, keep = 0): void {
  for (const first of firstsIn(directory).slice(keep)) rmSync(pathOf(directory, first), { force: true });
}

function pathOf(directory: string, first: number): string {
  return join(directory, `${first}.jsonl`);
}

/** The newest first. */
function firstsIn(directory: string): number[] {
  const firsts = readdirSync(directory).flatMap((name) => /^([1-9]\d*)\.jsonl$/.exec(name)?.[1] ?? []);
  return firsts.map(Number).sort((a, b) => b - a);
}

/** The newest first. One that cannot be read is none: its numbers may be in use, and a new epoch begins unless an older one is there. */
function readSegments(directory: string): Segment[] {
  const firsts = firstsIn(directory);
  const segments = firsts.map((first) => readSegment(pathOf(directory, first), first));
  // Behind a newest file whose beginning is torn, nothing is known of the numbers given away.
  return segments[0] === undefined ? [] : segments.filter((segment) => segment !== undefined);
}

function readSegment(path: string, first: number): Segment | undefined {
  const [head = '', ...lines] = readFileSync(path, 'utf8').split('\n');
  const header = v.safeParse(Header, parseJson(head));
  if (!header.success || header.output.first !== first) return undefined;
  const events: VmEvent[] = [];
  // What follows the last line's end is empty, unless that line is torn.
  for (const line of lines.slice(0, -1)) {
    const event = v.safeParse(VmEvent, parseJson(line));
    if (!event.success || event.output.seq <= (events.at(-1)?.seq ?? 0)) break;
    events.push(event.output);
  }
  return { header: header.output, events, isIntact: lines.at(-1) === '' && events.length === lines.length - 1 };
}

/** Of its own numbers, the last that has an event. */
function lastWritten({ header, events }: Segment): number {
  return Math.max(header.first - 1, events.at(-1)?.seq ?? 0);
}

/** By number, each once. */
function united(older: readonly VmEvent[], newer: readonly VmEvent[]): VmEvent[] {
  const bySeq = new Map([...older, ...newer].map((event) => [event.seq, event]));
  return [...bySeq.values()].sort((a, b) => a.seq - b.seq);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function writeWhole(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let written = 0; written < bytes.length; ) written += writeSync(fd, bytes, written);
}

function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
