/**
 * What the agent counts, as Prometheus reads it, in a registry of its own. Names follow prometheus.io/docs/practices/naming. No label has
 * a value that a caller can make up, none names a VM, and counters whose labels are known are there from the start with 0. A histogram of
 * a method comes with its first call: eighteen series for each of some seventy methods, on every host, would be a burden to the scraper.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from '@prometheus-io/client';
import { VERSION } from '../../shared/node/version.ts';
import { METHODS } from '../../shared/protocol/methods.ts';
import { SnapshotMode } from '../../shared/protocol/snapshot.ts';
import { VM_STATES, type VmState } from '../../shared/protocol/vm.ts';
import { LINK_FAILURES } from '../link/hub-http.ts';
import type { ConnectResult } from '../link/link.ts';
import { QMP_COMMANDS } from '../qmp/commands.ts';
import { CONTROLLERS } from '../vm/confinement/cgroup.ts';

/** What is looked at in the moment of the scrape. */
export interface Gauges {
  readonly linkUp: boolean;
  readonly rttMs: number | undefined;
  readonly vms: Readonly<Partial<Record<VmState, number>>>;
  /** RAM of clones that is their snapshot's until they write to it. */
  readonly ramSharedBytes: number;
  /** Controllers of control groups. */
  readonly limitedBy: readonly string[];
  readonly streamsOpen: number;
  readonly journal: { readonly operations: number; readonly bytes: number };
  /** Since the agent started. */
  readonly bytesToGuests: number;
  readonly bytesFromGuests: number;
}

/** From a fast disk to one that is ill. */
const SYNC_BUCKETS_S = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5];
/** What can go wrong with the journal, as its label says. */
export const JOURNAL_FAULTS = ['write_failed', 'torn_tail', 'records_lost'] as const;

const EVENT_LOOP_PRECISION_MS = 100;
/** From a status query (0.3 ms) to a start that waits for a guest. */
const DURATION_BUCKETS_S = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

export class AgentMetrics {
  readonly #registry = new Registry();
  readonly #connects: Counter<'result'>;
  readonly #requests: Counter<'method' | 'code'>;
  readonly #durations: Histogram<'method'>;
  readonly #inFlight: Gauge;
  readonly #qmpCommands: Counter<'command' | 'result'>;
  readonly #qmpEvents: Counter<'event'>;
  readonly #suspends: Histogram;
  readonly #suspendBytes: Counter;
  readonly #resumes: Histogram;
  readonly #snapshots: Histogram<'mode'>;
  readonly #snapshotBytes: Counter<'mode'>;
  readonly #journalSyncs: Histogram;
  readonly #journalFaults: Counter<'fault'>;
  readonly #journalForgotten: Counter;

  constructor(gauges: () => Gauges) {
    const registers = [this.#registry];
    this.#connects = new Counter({
      name: 'fairlead_link_connects_total',
      help: 'Attempts at a line to the hub, by result',
      labelNames: ['result'],
      registers,
    });
    this.#requests = new Counter({
      name: 'fairlead_rpc_requests_total',
      help: 'Calls of the hub that ended, by method and error code',
      labelNames: ['method', 'code'],
      registers,
    });
    this.#durations = new Histogram({
      name: 'fairlead_rpc_request_duration_seconds',
      help: 'Time from a call to its answer',
      labelNames: ['method'],
      buckets: DURATION_BUCKETS_S,
      registers,
    });
    this.#inFlight = new Gauge({ name: 'fairlead_rpc_in_flight', help: 'Calls of the hub that run', registers });
    this.#qmpCommands = new Counter({
      name: 'fairlead_qmp_commands_total',
      help: 'QMP commands that were answered, by command and result',
      labelNames: ['command', 'result'],
      registers,
    });
    this.#qmpEvents = new Counter({
      name: 'fairlead_qmp_events_total',
      help: 'QMP events that came',
      labelNames: ['event'],
      registers,
    });
    this.#suspends = new Histogram({
      name: 'fairlead_vm_suspend_duration_seconds',
      help: 'Time from a suspend to the end of the process of the VM',
      buckets: DURATION_BUCKETS_S,
      registers,
    });
    this.#suspendBytes = new Counter({
      name: 'fairlead_vm_suspend_bytes_total',
      help: 'Device state that suspends have written',
      registers,
    });
    this.#resumes = new Histogram({
      name: 'fairlead_vm_resume_duration_seconds',
      help: 'Time from the resume of a suspended VM to a guest that runs with all of its devices',
      buckets: DURATION_BUCKETS_S,
      registers,
    });
    this.#snapshots = new Histogram({
      name: 'fairlead_snapshot_duration_seconds',
      help: 'Time of a named snapshot, from its turn to all of it on the disk, by mode',
      labelNames: ['mode'],
      buckets: DURATION_BUCKETS_S,
      registers,
    });
    this.#snapshotBytes = new Counter({
      name: 'fairlead_snapshot_bytes_total',
      help: 'Space that named snapshots took when they were made, by mode',
      labelNames: ['mode'],
      registers,
    });
    this.#journalSyncs = new Histogram({
      name: 'fairlead_journal_sync_duration_seconds',
      help: 'Time of one fdatasync of the journal, which a batch of records shares',
      buckets: SYNC_BUCKETS_S,
      registers,
    });
    this.#journalFaults = new Counter({
      name: 'fairlead_journal_faults_total',
      help: 'Writes of the journal that failed, torn ends that were cut off, and stretches in which records were lost',
      labelNames: ['fault'],
      registers,
    });
    this.#journalForgotten = new Counter({
      name: 'fairlead_journal_forgotten_total',
      help: 'Commands that left the journal before their day was over, because it was full',
      registers,
    });
    const build = new Gauge({ name: 'fairlead_build_info', help: 'Always 1', labelNames: ['version', 'node'], registers });
    build.set({ version: VERSION, node: process.versions.node }, 1);
    this.#observeGauges(gauges);
    this.#startAtZero();
    collectDefaultMetrics({ register: this.#registry, eventLoopMonitoringPrecision: EVENT_LOOP_PRECISION_MS });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  render(): Promise<string> {
    return this.#registry.metrics();
  }

  connectEnded(result: ConnectResult): void {
    this.#connects.inc({ result });
  }

  rpcStarted(): void {
    this.#inFlight.inc();
  }

  rpcEnded(method: string, code: string, durationMs: number): void {
    this.#inFlight.dec();
    this.#requests.inc({ method, code });
    this.#durations.observe({ method }, durationMs / 1000);
  }

  /** Commands that only `vm.qmp` sends go by one name: their names come from the caller. */
  qmpAnswered(command: string, result: 'ok' | 'error'): void {
    this.#qmpCommands.inc({ command: Object.hasOwn(QMP_COMMANDS, command) ? command : 'other', result });
  }

  qmpEvent(event: string): void {
    this.#qmpEvents.inc({ event });
  }

  vmSuspended(durationMs: number, deviceStateBytes: number): void {
    this.#suspends.observe(durationMs / 1000);
    this.#suspendBytes.inc(deviceStateBytes);
  }

  vmResumed(durationMs: number): void {
    this.#resumes.observe(durationMs / 1000);
  }

  snapshotMade(mode: SnapshotMode, durationMs: number, storedBytes: number): void {
    this.#snapshots.observe({ mode }, durationMs / 1000);
    this.#snapshotBytes.inc({ mode }, storedBytes);
  }

  journalSynced(durationMs: number): void {
    this.#journalSyncs.observe(durationMs / 1000);
  }

  journalFault(fault: (typeof JOURNAL_FAULTS)[number]): void {
    this.#journalFaults.inc({ fault });
  }

  journalForgot(commands: number): void {
    this.#journalForgotten.inc(commands);
  }

  #observeGauges(gauges: () => Gauges): void {
    const registers = [this.#registry];
    const gauge = (name: string, help: string, read: (now: Gauges) => number) =>
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(read(gauges()));
        },
      });
    gauge('fairlead_link_up', '1 while the line to the hub is up', (now) => (now.linkUp ? 1 : 0));
    gauge(
      'fairlead_link_rtt_seconds',
      'Smoothed round trip to the hub; NaN before it is known',
      (now) => (now.rttMs ?? Number.NaN) / 1000,
    );
    gauge(
      'fairlead_vm_ram_shared_bytes',
      "RAM of clones that is their snapshot's until they write to it",
      (now) => now.ramSharedBytes,
    );
    gauge('fairlead_streams_open', 'Streams joined to guests', (now) => now.streamsOpen);
    gauge('fairlead_journal_bytes', 'Size of the journal of commands', (now) => now.journal.bytes);
    gauge('fairlead_journal_operations', 'Commands that the journal keeps', (now) => now.journal.operations);
    const vmsByState = new Gauge({
      name: 'fairlead_vms',
      help: 'VMs of this host, by state',
      labelNames: ['state'],
      registers: [],
      collect() {
        const { vms } = gauges();
        for (const state of VM_STATES) this.set({ state }, vms[state] ?? 0);
      },
    });
    const vmLimits = new Gauge({
      name: 'fairlead_vm_limits',
      help: '1 where VMs are held to their size by a control group, by controller',
      labelNames: ['controller'],
      registers: [],
      collect() {
        const { limitedBy } = gauges();
        for (const controller of CONTROLLERS) this.set({ controller }, limitedBy.includes(controller) ? 1 : 0);
      },
    });
    const streamBytes = new Counter({
      name: 'fairlead_stream_bytes_total',
      help: 'Bytes of streams, by direction',
      labelNames: ['direction'],
      registers: [],
      collect() {
        const { bytesToGuests, bytesFromGuests } = gauges();
        this.reset();
        this.inc({ direction: 'to_guest' }, bytesToGuests);
        this.inc({ direction: 'from_guest' }, bytesFromGuests);
      },
    });
    this.#registry.registerMetric(vmsByState);
    this.#registry.registerMetric(vmLimits);
    this.#registry.registerMetric(streamBytes);
  }

  #startAtZero(): void {
    for (const mode of SnapshotMode.options) this.#snapshotBytes.inc({ mode }, 0);
    for (const result of ['ok', ...LINK_FAILURES]) this.#connects.inc({ result }, 0);
    for (const fault of JOURNAL_FAULTS) this.#journalFaults.inc({ fault }, 0);
    for (const [method, { target }] of Object.entries(METHODS)) {
      if (target !== 'agent') continue;
      this.#requests.inc({ method, code: 'OK' }, 0);
    }
  }
}
