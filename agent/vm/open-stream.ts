/**
 * A stream into the guest, however long the guest takes to be ready for it: tried again until the caller's time is over, and given up at
 * once when the VM ends. A guest that has said it is ready and still refuses means it: nothing listens there. Unless streams to that very
 * port are open: its program is then behind with accepting, and the guest's kernel, which lets so many wait and no more (listen(2)),
 * refuses the rest in the same words.
 */
import type { Duplex } from 'node:stream';
import { FairleadError, type JsonObject, toFairleadError } from '../../shared/errors.ts';
import type { VmState } from '../../shared/protocol/vm.ts';
import type { VsockDevice, VsockTransport } from '../streams/transport.ts';
import { Deadline, settledWithin } from './deadline.ts';
import { lastLine } from './logs/log-file.ts';
import type { Session } from './session.ts';

/** A guest that is not up yet never answers, so a try is short and soon made again; what is queued in the device may still be answered. */
const ATTEMPT_MS = 500;
const PAUSE_MS = { first: 20, most: 250 } as const;
/** A program that is behind gets on the better the less often it is asked. */
const BEHIND_PAUSE_MS = 1000;
const CONSOLE_TAIL_BYTES = 1024;

export interface OpenedStream {
  readonly stream: Duplex;
  readonly transport: VsockTransport['kind'];
  readonly halfClose: boolean;
  /** Generation of the VM that the stream leads into. The stream is destroyed with STREAM_RESET when that generation ends or is reset. */
  readonly generation: number;
}

export interface OpenStreamRequest {
  readonly session: Session;
  /** Into one guest at once. */
  readonly maxStreams: number;
  readonly whyNoDevice: () => string;
  readonly port: number;
  readonly connectTimeoutMs: number;
  readonly signal: AbortSignal | undefined;
  /** What is known of the VM at this moment. */
  readonly vm: () => {
    readonly name: string;
    readonly state: VmState;
    readonly ready: boolean;
    readonly readyPort: number | undefined;
  };
  readonly consoleTail: (maxBytes: number) => string;
}

/**
 * @throws FairleadError UNSUPPORTED for a VM without a vsock, LIMIT_EXCEEDED, GUEST_REFUSED or GUEST_UNREACHABLE with the VM's state and the
 * end of its console, WRONG_STATE when the VM ended, CANCELLED.
 */
export async function openStream(request: OpenStreamRequest): Promise<OpenedStream> {
  const { session, maxStreams, whyNoDevice } = request;
  const { device, vm, streams, generation } = session;
  if (device === undefined) throw new FairleadError('UNSUPPORTED', `VM ${vm} cannot be reached by streams: ${whyNoDevice()}`);
  using place = streams.reserve(maxStreams);
  if (place === undefined) {
    throw new FairleadError('LIMIT_EXCEEDED', `VM ${vm} has ${maxStreams} streams open, the most that are allowed`);
  }
  const stream = await reach({ ...request, device });
  return { stream, transport: device.state.kind, halfClose: device.halfClose, generation };
}

interface Reaching extends OpenStreamRequest {
  readonly device: VsockDevice;
}

async function reach(request: Reaching): Promise<Duplex> {
  const { session, connectTimeoutMs } = request;
  using caller = new Deadline(`opening a stream to port ${request.port} of VM ${session.vm}`, { signal: request.signal });
  const signal = AbortSignal.any([caller.signal, session.signal]);
  const endsAt = performance.now() + connectTimeoutMs;
  const ended = Promise.withResolvers<void>();
  signal.addEventListener('abort', () => ended.resolve(), { once: true });

  for (let pauseMs: number = PAUSE_MS.first, mostMs: number = PAUSE_MS.most; ; pauseMs = Math.min(2 * pauseMs, mostMs)) {
    signal.throwIfAborted();
    const leftMs = endsAt - performance.now();
    const outcome = await attempt(request, Math.max(1, Math.ceil(Math.min(leftMs, ATTEMPT_MS))), signal);
    if (!(outcome instanceof FairleadError)) return outcome;
    signal.throwIfAborted();
    const isFinal =
      outcome.code === 'GUEST_REFUSED'
        ? request.vm().ready && session.streams.toPort(request.port) === 0
        : outcome.code !== 'GUEST_UNREACHABLE';
    mostMs = outcome.code === 'GUEST_REFUSED' && request.vm().ready ? BEHIND_PAUSE_MS : PAUSE_MS.most;
    if (isFinal || endsAt - performance.now() <= pauseMs) throw explain(outcome, request);
    await settledWithin(ended.promise, pauseMs);
  }
}

async function attempt(
  { session, device, port }: Reaching,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Duplex | FairleadError> {
  try {
    return await dialGuest(session, device, { port, timeoutMs, signal });
  } catch (error) {
    return toFairleadError(error);
  }
}

/** One attempt at a stream that ends with the guest that it leads into. @throws FairleadError as VsockDevice.connect does. */
export async function dialGuest(
  { streams, vm }: Pick<Session, 'streams' | 'vm'>,
  device: VsockDevice,
  options: { port: number; timeoutMs: number; signal: AbortSignal },
): Promise<Duplex> {
  const { resets } = streams;
  const stream = await device.connect(options);
  if (streams.resets === resets && !options.signal.aborted) {
    streams.add(stream, options.port);
    return stream;
  }
  // It leads into a guest that is no more.
  stream.on('error', () => {}).destroy();
  throw new FairleadError('GUEST_UNREACHABLE', `VM ${vm} was reset during the connect`);
}

function explain(failure: FairleadError, { session, vm, port, connectTimeoutMs, consoleTail }: OpenStreamRequest): FairleadError {
  if (failure.code !== 'GUEST_REFUSED' && failure.code !== 'GUEST_UNREACHABLE') return failure;
  const { name, state, ready, readyPort } = vm();
  const tail = consoleTail(CONSOLE_TAIL_BYTES);
  const readiness = readyPort === undefined ? '' : ready ? ' and ready' : ' and has not said that it is ready';
  const open = session.streams.toPort(port);
  const what =
    failure.code === 'GUEST_REFUSED'
      ? open === 0
        ? `nothing listens on vsock port ${port} of VM ${name}`
        : `vsock port ${port} of VM ${name} took no connection beyond the ${open} that are open within ${connectTimeoutMs} ms`
      : `VM ${name} could not be reached on vsock port ${port} within ${connectTimeoutMs} ms`;
  const words = tail === '' ? 'its console is empty' : `its console ends with ${JSON.stringify(lastLine(tail))}`;
  const details: JsonObject = { vm: name, port, state, ready, consoleTail: tail };
  return new FairleadError(failure.code, `${what}: it is ${state}${readiness}; ${words}`, { details, cause: failure });
}
