/**
 * Counts from the first moment on, although the library of metrics is loaded late, at the first scrape or when much has happened: an
 * agent is connected sooner without it, and one that nobody scrapes hardly pays for it.
 *
 * What happens is noted, and counted when much is noted or somebody asks: no caller waits for it, and together it costs less.
 */
import type { Duplex } from 'node:stream';
import type { SnapshotMode } from '../shared/protocol/snapshot.ts';
import type { VmInfo, VmState } from '../shared/protocol/vm.ts';
import type { AgentMetrics, Gauges } from './http/metrics.ts';
import type { JournalObserver } from './journal/observer.ts';
import type { ConnectResult, LinkStatus } from './link/link.ts';
import type { RpcObserver } from './rpc/dispatcher.ts';
import type { StreamObserver } from './rpc/stream-open.ts';
import type { VmObserver } from './vm/api.ts';

/** What is noted before the registry is loaded to take it, and once it is: a few tenths of a millisecond's worth. */
const MAX_PENDING = { unloaded: 1_000, loaded: 100 };

export interface TelemetrySources {
  readonly link: () => LinkStatus;
  readonly vms: () => readonly VmInfo[];
  readonly limitedBy: () => readonly string[];
  readonly journal: () => { readonly operations: number; readonly bytes: number };
  /** Told when the library of metrics has been loaded. */
  readonly onLoaded: () => void;
}

export class Telemetry implements RpcObserver, StreamObserver, VmObserver {
  readonly journal: JournalObserver = {
    synced: ({ durationMs }) => this.#tell((metrics) => metrics.journalSynced(durationMs)),
    writeFailed: () => this.#tell((metrics) => metrics.journalFault('write_failed')),
    tornTail: () => this.#tell((metrics) => metrics.journalFault('torn_tail')),
    lost: () => this.#tell((metrics) => metrics.journalFault('records_lost')),
    forgot: (commands) => this.#tell((metrics) => metrics.journalForgot(commands)),
  };
  readonly #sources: TelemetrySources;
  readonly #streams = new Set<Duplex>();
  #bytesToGuests = 0;
  #bytesFromGuests = 0;
  #metrics: Promise<AgentMetrics> | undefined;
  #loaded: AgentMetrics | undefined;
  #pending: ((metrics: AgentMetrics) => void)[] = [];
  #counting = false;

  constructor(sources: TelemetrySources) {
    this.#sources = sources;
  }

  /** The registry, loaded at the first call, with all counted that has happened. */
  async metrics(): Promise<AgentMetrics> {
    this.#metrics ??= this.#load();
    const metrics = await this.#metrics;
    this.#count();
    return metrics;
  }

  connectEnded(result: ConnectResult): void {
    this.#tell((metrics) => metrics.connectEnded(result));
  }

  started(): void {
    this.#tell((metrics) => metrics.rpcStarted());
  }

  ended(method: string, code: string, durationMs: number): void {
    this.#tell((metrics) => metrics.rpcEnded(method, code, durationMs));
  }

  onCommand({ command, ok }: { command: string; ok: boolean }): void {
    this.#tell((metrics) => metrics.qmpAnswered(command, ok ? 'ok' : 'error'));
  }

  onEvent(name: string): void {
    this.#tell((metrics) => metrics.qmpEvent(name));
  }

  onSuspended({ durationMs, deviceStateBytes }: { durationMs: number; deviceStateBytes: number }): void {
    this.#tell((metrics) => metrics.vmSuspended(durationMs, deviceStateBytes));
  }

  onSnapshot({ mode, durationMs, storedBytes }: { mode: SnapshotMode; durationMs: number; storedBytes: number }): void {
    this.#tell((metrics) => metrics.snapshotMade(mode, durationMs, storedBytes));
  }

  onResumed({ durationMs }: { durationMs: number }): void {
    this.#tell((metrics) => metrics.vmResumed(durationMs));
  }

  opened(guest: Duplex): void {
    this.#streams.add(guest);
  }

  closed(guest: Duplex): void {
    this.#streams.delete(guest);
    const { read, written } = bytesOf(guest);
    this.#bytesFromGuests += read;
    this.#bytesToGuests += written;
  }

  async #load(): Promise<AgentMetrics> {
    const { AgentMetrics } = await import('./http/metrics.ts');
    this.#loaded = new AgentMetrics(() => this.#gauges());
    this.#sources.onLoaded();
    return this.#loaded;
  }

  #tell(happened: (metrics: AgentMetrics) => void): void {
    this.#pending.push(happened);
    if (this.#counting || this.#pending.length < MAX_PENDING[this.#loaded === undefined ? 'unloaded' : 'loaded']) return;
    this.#counting = true;
    setImmediate(() => this.#count());
  }

  #count(): void {
    this.#counting = false;
    if (this.#loaded === undefined) return void this.metrics();
    const pending = this.#pending;
    this.#pending = [];
    for (const happened of pending) happened(this.#loaded);
  }

  #gauges(): Gauges {
    const { state, rttMs } = this.#sources.link();
    const open = [...this.#streams].map(bytesOf);
    const vms: Partial<Record<VmState, number>> = {};
    let ramSharedBytes = 0;
    for (const vm of this.#sources.vms()) {
      vms[vm.state] = (vms[vm.state] ?? 0) + 1;
      ramSharedBytes += vm.memory?.sharedBytes ?? 0;
    }
    return {
      linkUp: state === 'up',
      journal: this.#sources.journal(),
      rttMs,
      vms,
      ramSharedBytes,
      limitedBy: this.#sources.limitedBy(),
      streamsOpen: open.length,
      bytesToGuests: open.reduce((sum, { written }) => sum + written, this.#bytesToGuests),
      bytesFromGuests: open.reduce((sum, { read }) => sum + read, this.#bytesFromGuests),
    };
  }
}

/** Sockets count for themselves. */
function bytesOf(stream: Duplex): { read: number; written: number } {
  // SAFETY: both are optional here; a net.Socket has them as numbers, any other Duplex has neither.
  const { bytesRead, bytesWritten } = stream as { bytesRead?: number; bytesWritten?: number };
  return { read: bytesRead ?? 0, written: bytesWritten ?? 0 };
}
