/** What of the event log lasts over the end of an agent, and that no number ever stands for two events. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { EventStore } from '../../agent/vm/event-store.ts';
import { EventLog } from '../../agent/vm/events.ts';
import { silent } from '../support/vm.ts';

const CAPACITY = 4;

describe('the event log on disk', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'fl-events-'));
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  const files = (): string[] => readdirSync(directory).sort();

  /** A life of the agent: what it finds, and what it tells. */
  function agent(tells: number, bootId = 'boot', logger = silent, vm = 'web') {
    using store = new EventStore({ directory, bootId, capacity: CAPACITY, logger });
    const log = new EventLog({ sink: store, capacity: CAPACITY });
    const found = { epoch: log.epoch, seqs: log.query({}).events.map(({ seq }) => seq), lastSeq: log.lastSeq };
    const told = Array.from({ length: tells }, () => {
      return log.append({ vm, type: 'vm.paused', state: 'paused', data: { generation: 1 } }).seq;
    });
    return { ...found, told };
  }

  test('goes on where it was, in the same epoch', () => {
    const first = agent(2);
    expect(first).toMatchObject({ seqs: [], lastSeq: 0, told: [1, 2] });
    expect(agent(1)).toEqual({ epoch: first.epoch, seqs: [1, 2], lastSeq: 2, told: [3] });
  });

  test('is bounded: the newest are kept, in two files', () => {
    agent(3 * CAPACITY + 1);
    expect(files()).toEqual(['13.jsonl', '9.jsonl']);
    expect(agent(0)).toMatchObject({ seqs: [10, 11, 12, 13], lastSeq: 13 });
  });

  test('keeps what the log keeps: one VM that tells without end takes nothing from another', () => {
    agent(2, 'boot', silent, 'quiet');
    agent(5 * CAPACITY);
    expect(agent(1)).toMatchObject({ seqs: [1, 2, 21, 22], told: [23] });
    expect(agent(0, 'another boot')).toMatchObject({ seqs: [1, 2, 22, 23], lastSeq: 24 });
  });

  test('tells of no event as missed whose number none has got', () => {
    agent(2);
    agent(1, 'another boot');
    using store = new EventStore({ directory, bootId: 'a third boot', capacity: CAPACITY, logger: silent });
    expect(new EventLog({ sink: store }).query({})).toMatchObject({ events: [{ seq: 1 }, { seq: 2 }, { seq: 5 }], missed: 0 });
  });

  test('gives no number again after a restart of the host, whatever the disk had kept', () => {
    const { epoch } = agent(2);
    expect(agent(1, 'another boot')).toMatchObject({ epoch, seqs: [1, 2], told: [5] });
    // The file of the new boot was durable, the event in it was not.
    truncateSync(join(directory, '5.jsonl'), readFileSync(join(directory, '5.jsonl'), 'utf8').indexOf('\n') + 1);
    expect(agent(1, 'a third boot')).toMatchObject({ epoch, told: [9] });
  });

  test.each([
    ['torn', (text: string) => text.slice(0, -5)],
    ['no JSON', (text: string) => `${text}nonsense\n`],
    ['no event', (text: string) => `${text}{"seq":3}\n`],
    ['out of order', (text: string) => `${text}${text.split('\n')[1]}\n`],
  ])('skips the numbers of a file with a line that is %s', (_, damage) => {
    const { epoch } = agent(2);
    const path = join(directory, '1.jsonl');
    writeFileSync(path, damage(readFileSync(path, 'utf8')));
    const second = agent(1);
    expect(second).toMatchObject({ epoch, lastSeq: CAPACITY, told: [CAPACITY + 1] });
    expect(second.seqs[0]).toBe(1);
  });

  test('begins a new epoch where it does not know which numbers were given away', () => {
    const { epoch } = agent(CAPACITY + 1);
    for (const file of files()) writeFileSync(join(directory, file), 'nonsense');
    const second = agent(1);
    expect(second).toMatchObject({ seqs: [], told: [1] });
    expect(second.epoch).not.toBe(epoch);
    expect(agent(0)).toMatchObject({ epoch: second.epoch, seqs: [1] });
  });

  test('leaves alone what is none of its files', () => {
    writeFileSync(join(directory, 'notes.txt'), 'mine');
    agent(3 * CAPACITY);
    expect(files()).toContain('notes.txt');
  });

  test('says once that the disk takes no events, goes on without, and comes back in a new epoch', () => {
    const complaints: string[] = [];
    const logger = { ...silent, error: (_: object, message: string) => void complaints.push(message) };
    const { epoch } = agent(0);
    {
      using store = new EventStore({ directory, bootId: 'boot', capacity: CAPACITY, logger });
      // The next file, on a disk that is full.
      symlinkSync('/dev/full', join(directory, `${CAPACITY + 1}.jsonl`));
      const log = new EventLog({ sink: store });
      for (let n = 0; n < 2 * CAPACITY; n++) {
        log.append({ vm: 'web', type: 'vm.paused', state: 'paused', data: { generation: 1 } });
      }
      expect(log.query({}).lastSeq).toBe(2 * CAPACITY);
    }
    expect(complaints).toHaveLength(1);
    expect(files()).toEqual([]);
    expect(agent(0).epoch).not.toBe(epoch);
  });
});
