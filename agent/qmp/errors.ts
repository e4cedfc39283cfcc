/**
 * The failures of a QMP session, after the tree of QEMU's own Python library. Callers catch the semantic failure by its code and find
 * the reason underneath in `cause`:
 *
 *     CONNECT_FAILED     no connection to the socket
 *     PROTOCOL_ERROR     the session is over, since the two ends no longer understand each other:
 *                        no JSON, oversize, unknown message, no greeting first, refused negotiation, an error without id
 *     QMP_FAILED         the server refused one command: details {class, desc, command}
 *     TIMEOUT            no answer within the deadline: details {command, sent}
 *     CANCELLED          given up by its caller: details {command, sent}
 *     INTERRUPTED        the session ended before the answer: details {command, sent}
 *     UNSUPPORTED        out-of-band asked for where it is not to be had
 *     INVALID_PARAMS     arguments that are no JSON
 *
 * `sent: false` promises that the command had no effect; with `sent: true` nobody knows.
 */
import { FairleadError, isFairleadError } from '../../shared/errors.ts';
import type { QmpErrorObject } from './messages.ts';

/** QEMU serves one client at a time for each monitor: the next one is connected by the kernel, and then hears nothing. */
const ONE_CLIENT = 'another client may be connected, for QEMU serves one at a time on each monitor, or QEMU may be stopped';

/** What `sockaddr_un` of Linux holds besides its final zero (unix(7)). */
const SUN_PATH_BYTES = 107;

export interface CommandFacts {
  readonly command: string;
  /** What messages call the monitor: the path of its socket. */
  readonly monitor: string;
  readonly sent: boolean;
}

export function connectFailed(path: string, cause: unknown): FairleadError {
  const code = errnoCode(cause);
  const reason = code ?? (cause instanceof Error ? cause.message : String(cause));
  return new FairleadError('CONNECT_FAILED', `could not connect to QMP socket ${path}: ${reason}${connectHint(path, code)}`, {
    cause,
  });
}

function connectHint(path: string, code: string | undefined): string {
  if (code === 'EAGAIN') return ': its queue is full, another client may be connected';
  const bytes = Buffer.byteLength(path);
  return bytes > SUN_PATH_BYTES ? `: the path has ${bytes} bytes, and the system takes at most ${SUN_PATH_BYTES}` : '';
}

export function connectTimedOut(path: string, timeoutMs: number): FairleadError {
  return new FairleadError('TIMEOUT', `could not connect to QMP socket ${path} within ${timeoutMs} ms`);
}

export function greetingTimedOut(monitor: string, timeoutMs: number): FairleadError {
  return new FairleadError('TIMEOUT', `no greeting on QMP socket ${monitor} within ${timeoutMs} ms: ${ONE_CLIENT}`);
}

export function setUpCancelled(monitor: string, cause: unknown): FairleadError {
  return new FairleadError('CANCELLED', `setting up the QMP session on ${monitor} was cancelled`, { cause });
}

export function notAGreeting(monitor: string, kind: string): FairleadError {
  return new FairleadError(
    'PROTOCOL_ERROR',
    `expected a greeting on QMP socket ${monitor}, but the first message is of kind '${kind}'`,
  );
}

export function greetedAgain(monitor: string): FairleadError {
  return new FairleadError(
    'PROTOCOL_ERROR',
    `one greeting too many on QMP socket ${monitor}: commands sent before it may be lost`,
  );
}

export function negotiationFailed(monitor: string, cause: FairleadError): FairleadError {
  return new FairleadError('PROTOCOL_ERROR', `capabilities negotiation failed on QMP socket ${monitor}: ${cause.message}`, {
    cause,
  });
}

export function protocolBroken(monitor: string, cause: unknown): FairleadError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new FairleadError('PROTOCOL_ERROR', `protocol error on QMP socket ${monitor}: ${reason}`, { cause });
}

export function replyWithoutId(monitor: string): FairleadError {
  return new FairleadError('PROTOCOL_ERROR', `a reply without id on QMP socket ${monitor}: no telling which command it answers`);
}

/** The server could not parse what we sent, so which commands it took is unknown: there is no clever recovery. */
export function errorWithoutId(monitor: string, error: QmpErrorObject): FairleadError {
  return new FairleadError('PROTOCOL_ERROR', `an error without id on QMP socket ${monitor}: ${error.class}: ${error.desc}`, {
    details: { class: error.class, desc: error.desc },
  });
}

export function disconnected(monitor: string, cause?: unknown): FairleadError {
  const reason = cause instanceof Error ? `: ${errnoCode(cause) ?? cause.message}` : '';
  return new FairleadError('INTERRUPTED', `QEMU closed the connection of QMP socket ${monitor}${reason}`, { cause });
}

export function closedByUs(monitor: string): FairleadError {
  return new FairleadError('INTERRUPTED', `the QMP session on ${monitor} was closed by its owner`);
}

export function commandFailed(facts: CommandFacts, error: QmpErrorObject): FairleadError {
  const { command, monitor } = facts;
  return new FairleadError('QMP_FAILED', `QMP command '${command}' failed on ${monitor}: ${error.class}: ${error.desc}`, {
    details: { class: error.class, desc: error.desc, command },
  });
}

/** QEMU has no command of this name, or none in the state of its monitor. */
export function isCommandNotFound(error: FairleadError): boolean {
  return error.code === 'QMP_FAILED' && error.details?.['class'] === 'CommandNotFound';
}

export function commandTimedOut(facts: CommandFacts, timeoutMs: number): FairleadError {
  const what = facts.sent ? 'had no answer' : 'could not be sent behind those before it';
  const message = `QMP command '${facts.command}' ${what} on ${facts.monitor} within ${Math.round(timeoutMs)} ms`;
  return new FairleadError('TIMEOUT', message, { details: { command: facts.command, sent: facts.sent } });
}

/** The caller's signal was aborted: because the caller gave up, or because the time of what the command is part of is over. */
export function commandCancelled(facts: CommandFacts, cause: unknown): FairleadError {
  const details = { command: facts.command, sent: facts.sent };
  const isLate = isFairleadError(cause) && cause.code === 'TIMEOUT';
  const what = isLate ? `was given up: ${cause.message}` : 'was cancelled';
  return new FairleadError(isLate ? 'TIMEOUT' : 'CANCELLED', `QMP command '${facts.command}' on ${facts.monitor} ${what}`, {
    details,
    cause,
  });
}

export function commandInterrupted(facts: CommandFacts, cause: FairleadError): FairleadError {
  const details = { command: facts.command, sent: facts.sent };
  const when = facts.sent ? 'before the answer' : 'before it was sent';
  return new FairleadError('INTERRUPTED', `QMP command '${facts.command}' was interrupted ${when}: ${cause.message}`, {
    details,
    cause,
  });
}

export function notSerializable(facts: CommandFacts, cause: unknown): FairleadError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  const message = `the arguments of QMP command '${facts.command}' for ${facts.monitor} are no JSON: ${reason}`;
  return new FairleadError('INVALID_PARAMS', message, { cause });
}

export function oobRefused(facts: CommandFacts, why: string): FairleadError {
  return new FairleadError('UNSUPPORTED', `QMP command '${facts.command}' cannot go out-of-band on ${facts.monitor}: ${why}`);
}

export function listenerTimedOut(monitor: string, what: string, timeoutMs: number): FairleadError {
  return new FairleadError('TIMEOUT', `no ${what} on QMP socket ${monitor} within ${timeoutMs} ms`);
}

function errnoCode(cause: unknown): string | undefined {
  return cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : undefined;
}
