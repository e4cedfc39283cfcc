/**
 * A disk for the journal that keeps apart what was written and what is durable, and that can be told to fail. What a crash leaves of it
 * is another such disk.
 */
import type { JournalFile, JournalFiles } from '../../agent/journal/files.ts';
import { Journal, type JournalOptions } from '../../agent/journal/journal.ts';
import type { JournalObserver } from '../../agent/journal/observer.ts';
import { silent } from './vm.ts';

interface Content {
  written: Buffer;
  /** What the last sync made durable. */
  durable: Buffer;
}

export type Operation =
  | 'list'
  | 'read'
  | 'create'
  | 'open'
  | 'write'
  | 'truncate'
  | 'datasync'
  | 'close'
  | 'remove'
  | 'syncNames';

export interface Fault {
  readonly on: Operation;
  /** `ENOSPC`, `EIO`. */
  readonly code: string;
  /** Of a write: so many bytes are written before it fails. */
  readonly after?: number;
}

export class MemoryFiles implements JournalFiles {
  readonly #contents = new Map<string, Content>();
  #durableNames = new Set<string>();
  readonly counts: Record<string, number> = {};
  /** While it is set, these fail. */
  faults: Fault[] = [];
  /** The most that one write takes. */
  maxWriteBytes = Number.POSITIVE_INFINITY;
  /** Called before each operation: there a crash may hit. */
  before: ((operation: Operation) => void) | undefined;
  /** Settles before each sync does. */
  syncGate: Promise<void> = Promise.resolve();
  openFiles = 0;

  static of(contents: Readonly<Record<string, Buffer>>): MemoryFiles {
    const files = new MemoryFiles();
    for (const [name, bytes] of Object.entries(contents)) files.#put(name, bytes);
    return files;
  }

  /** Everything that was written, synced or not: what a killed process leaves. */
  image(): Record<string, Buffer> {
    return Object.fromEntries([...this.#contents].map(([name, { written }]) => [name, Buffer.from(written)]));
  }

  /** What a power cut leaves: all that is durable, and of the rest as much as `share` (0 to 1) says. */
  crash(share: (name: string) => number): MemoryFiles {
    const left = new MemoryFiles();
    for (const [name, { written, durable }] of this.#contents) {
      if (!this.#durableNames.has(name) && share(`name of ${name}`) < 0.5) continue;
      const extra = written.subarray(durable.length);
      left.#put(name, Buffer.concat([durable, extra.subarray(0, Math.floor(extra.length * share(name)))]));
    }
    return left;
  }

  async list(): Promise<string[]> {
    this.#count('list');
    return [...this.#contents.keys()];
  }

  async read(name: string): Promise<Buffer> {
    this.#count('read');
    return Buffer.from(this.#content(name).written);
  }

  async readAt(name: string, position: number, bytes: number): Promise<Buffer> {
    this.#count('read');
    return Buffer.from(this.#content(name).written.subarray(position, position + bytes));
  }

  async create(name: string): Promise<JournalFile> {
    this.#count('create');
    this.#contents.set(name, { written: Buffer.alloc(0), durable: Buffer.alloc(0) });
    return this.#file(name);
  }

  async open(name: string): Promise<JournalFile> {
    this.#count('open');
    this.#content(name);
    return this.#file(name);
  }

  async remove(name: string): Promise<void> {
    this.#count('remove');
    this.#contents.delete(name);
  }

  async syncNames(): Promise<void> {
    this.#count('syncNames');
    this.#durableNames = new Set(this.#contents.keys());
  }

  #put(name: string, bytes: Buffer): void {
    this.#contents.set(name, { written: Buffer.from(bytes), durable: Buffer.from(bytes) });
    this.#durableNames.add(name);
  }

  #content(name: string): Content {
    const content = this.#contents.get(name);
    if (content !== undefined) return content;
    throw Object.assign(new Error(`ENOENT: ${name}`), { code: 'ENOENT' });
  }

  #file(name: string): JournalFile {
    const content = this.#content(name);
    this.openFiles += 1;
    const write = (bytes: Uint8Array, position: number): void => {
      const rest = content.written.subarray(position + bytes.length);
      content.written = Buffer.concat([content.written.subarray(0, position), bytes, rest]);
    };
    return {
      write: async (bytes, position) => {
        const fault = this.faults.find(({ on }) => on === 'write');
        if (fault !== undefined) write(bytes.subarray(0, fault.after ?? 0), position);
        this.#count('write');
        const taken = bytes.subarray(0, this.maxWriteBytes);
        write(taken, position);
        return taken.length;
      },
      truncate: async (bytes) => {
        this.#count('truncate');
        content.written = Buffer.from(content.written.subarray(0, bytes));
        if (content.durable.length > bytes) content.durable = content.written;
      },
      datasync: async () => {
        const written = content.written;
        await this.syncGate;
        this.#count('datasync');
        content.durable = written;
      },
      close: async () => {
        this.openFiles -= 1;
        this.#count('close');
      },
    };
  }

  #count(operation: Operation): void {
    this.before?.(operation);
    this.counts[operation] = (this.counts[operation] ?? 0) + 1;
    const fault = this.faults.find(({ on }) => on === operation);
    if (fault !== undefined) throw Object.assign(new Error(`${fault.code}: injected, ${operation}`), { code: fault.code });
  }
}

/** Keeps what it is told. */
export function journalObserver() {
  const told = { syncs: 0, records: 0, writeFailures: 0, tornTails: 0, losses: 0, forgotten: 0 };
  const observer: JournalObserver = {
    synced: ({ records }) => {
      told.syncs += 1;
      told.records += records;
    },
    writeFailed: () => void (told.writeFailures += 1),
    tornTail: () => void (told.tornTails += 1),
    lost: () => void (told.losses += 1),
    forgot: (commands) => void (told.forgotten += commands),
  };
  return { observer, told };
}

export function testJournal(options: Partial<JournalOptions> = {}): Journal {
  return new Journal({ files: new MemoryFiles(), observer: journalObserver().observer, logger: silent, ...options });
}
