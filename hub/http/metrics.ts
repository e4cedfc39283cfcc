/**
 * What the hub counts, in a registry of its own. Names follow prometheus.io/docs/practices/naming; no label has a value that a caller
 * can make up, and none names a host or a VM on a counter of calls.
 *
 * Calls are noted, and counted when many are noted or somebody asks: no caller waits for it, and together it costs less.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from '@prometheus-io/client';
import { VERSION } from '../../shared/node/version.ts';
import type { RefusalReason } from '../auth/refused.ts';

/** What is counted by looking at the moment of the scrape. */
export interface HubGauges {
  readonly hostsConnected: number;
  readonly operatorsConnected: number;
  readonly streamsOpen: number;
  readonly rpcInFlight: number;
}

export type RefusedEndpoint = 'agent' | 'enrol' | 'challenge' | 'rpc';

const EVENT_LOOP_PRECISION_MS = 100;
/** From a forwarded status query (0.3 ms) to a start that waits for a guest. */
const DURATION_BUCKETS_S = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** Calls that are noted before they are counted: a few tenths of a millisecond's worth. */
const MAX_NOTED = 100;

interface EndedCall {
  readonly method: string;
  readonly code: string;
  readonly durationMs: number;
}

export class HubMetrics {
  readonly registry = new Registry();
  readonly #requests: Counter<'method' | 'code'>;
  readonly #durations: Histogram<'method'>;
  readonly #refusals: Counter<'endpoint' | 'reason'>;
  readonly #sessions: Counter<'peer' | 'result'>;
  readonly #streams: Counter<'result'>;
  readonly #streamBytes: Counter<'direction'>;
  #noted: EndedCall[] = [];

  constructor(gauges: () => HubGauges) {
    const registers = [this.registry];
    this.#requests = new Counter({
      name: 'fairlead_hub_rpc_requests_total',
      help: 'Calls of operators that ended, by method and error code',
      labelNames: ['method', 'code'],
      registers,
    });
    this.#durations = new Histogram({
      name: 'fairlead_hub_rpc_request_duration_seconds',
      help: 'Time from a call to its answer',
      labelNames: ['method'],
      buckets: DURATION_BUCKETS_S,
      registers,
    });
    this.#refusals = new Counter({
      name: 'fairlead_hub_handshakes_refused_total',
      help: 'Handshakes turned down before a session existed',
      labelNames: ['endpoint', 'reason'],
      registers,
    });
    this.#sessions = new Counter({
      name: 'fairlead_hub_sessions_total',
      help: 'Sessions that ended, by kind of peer and how',
      labelNames: ['peer', 'result'],
      registers,
    });
    this.#streams = new Counter({
      name: 'fairlead_hub_streams_total',
      help: 'Streams asked for, by result',
      labelNames: ['result'],
      registers,
    });
    this.#streamBytes = new Counter({
      name: 'fairlead_hub_stream_bytes_total',
      help: 'Bytes relayed in streams that ended',
      labelNames: ['direction'],
      registers,
    });
    const build = new Gauge({
      name: 'fairlead_hub_build_info',
      help: 'Always 1',
      labelNames: ['version', 'node'],
      registers,
    });
    build.set({ version: VERSION, node: process.versions.node }, 1);
    this.#gauge('fairlead_hub_hosts_connected', 'Hosts with a line to this hub', () => gauges().hostsConnected);
    this.#gauge('fairlead_hub_operators_connected', 'Operator sessions', () => gauges().operatorsConnected);
    this.#gauge('fairlead_hub_streams_open', 'Streams being relayed', () => gauges().streamsOpen);
    this.#gauge('fairlead_hub_rpc_in_flight', 'Calls of operators that run', () => gauges().rpcInFlight);
    for (const direction of ['to_guest', 'to_operator']) this.#streamBytes.inc({ direction }, 0);
    collectDefaultMetrics({ register: this.registry, eventLoopMonitoringPrecision: EVENT_LOOP_PRECISION_MS });
  }

  /** All of the registry, for a scrape. */
  async render(): Promise<{ readonly text: string; readonly contentType: string }> {
    this.#countCalls();
    return { text: await this.registry.metrics(), contentType: this.registry.contentType };
  }

  /** `method` is one of the contract, or `unknown`; `code` is `OK` or an error code. */
  rpcEnded(method: string, code: string, durationMs: number): void {
    if (this.#noted.push({ method, code, durationMs }) === MAX_NOTED) setImmediate(() => this.#countCalls());
  }

  #countCalls(): void {
    const noted = this.#noted;
    this.#noted = [];
    for (const { method, code, durationMs } of noted) {
      this.#requests.inc({ method, code });
      this.#durations.observe({ method }, durationMs / 1000);
    }
  }

  handshakeRefused(endpoint: RefusedEndpoint, reason: RefusalReason): void {
    this.#refusals.inc({ endpoint, reason });
  }

  sessionEnded(peer: 'agent' | 'operator', result: 'closed' | 'superseded' | 'failed'): void {
    this.#sessions.inc({ peer, result });
  }

  streamAsked(result: 'opened' | 'refused'): void {
    this.#streams.inc({ result });
  }

  streamEnded({ toGuestBytes, toOperatorBytes }: { toGuestBytes: number; toOperatorBytes: number }): void {
    this.#streamBytes.inc({ direction: 'to_guest' }, toGuestBytes);
    this.#streamBytes.inc({ direction: 'to_operator' }, toOperatorBytes);
  }

  #gauge(name: string, help: string, read: () => number): void {
    const gauge = new Gauge({
      name,
      help,
      registers: [],
      collect() {
        this.set(read());
      },
    });
    this.registry.registerMetric(gauge);
  }
}
