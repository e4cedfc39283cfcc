/**
 * A program in the guest, from its start to its end:
 *
 *     guest-exec ──▶ runs ── guest-exec-status: exited ──▶ exit code or signal, outputs
 *                     └───── time over, or its caller gone ──▶ killed with its children ── exited, or not in time ──▶ timeout
 *
 * The guest agent tells nobody of an end, so it is asked, ever less often. A program that has ended while a child of it still holds its
 * outputs counts as running: the agent waits for the outputs' end. To kill it the guest has the time of an answer: it starts a shell for that,
 * and one that is slow to answer is slow at this as well.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { FairleadError, toFairleadError } from '../../../shared/errors.ts';
import type { Params, Result } from '../../../shared/protocol/methods.ts';
import { orAborted } from '../deadline.ts';
import type { CommandLimits } from '../live-vm.ts';
import type { Answer, GuestAgentClient } from './client.ts';
import { shownOutput } from './exec-output.ts';

export type ExecRequest = Omit<Params<'guest.exec'>, 'vm' | 'answerTimeoutMs'>;
export type ExecResult = Result<'guest.exec'>;

export interface ExecOptions {
  /** For messages. */
  readonly vm: string;
  /** The caller's: when it fires the program is killed. */
  readonly signal: AbortSignal;
  readonly answerTimeoutMs: number;
}

type Status = Answer<'guest-exec-status'>;

const POLL_MS = { first: 10, most: 500 } as const;

/** Kills a process and its children, theirs too. They are stopped first, so that none makes another meanwhile. */
const KILL_TREE =
  'tree() { kill -STOP "$1"; for child in $(cat /proc/"$1"/task/*/children); do tree "$child"; done; kill -KILL "$1"; }; tree "$1"';

/** @throws FairleadError what the client throws, INVALID_PARAMS, or the reason of the signal. */
export async function execInGuest(agent: GuestAgentClient, request: ExecRequest, options: ExecOptions): Promise<ExecResult> {
  const { signal, answerTimeoutMs, vm } = options;
  const startedAt = performance.now();
  const { pid } = (await agent.run('guest-exec', argumentsOf(request), { signal, remainingMs: answerTimeoutMs })).value;

  const endsAt = startedAt + request.timeoutMs;
  const limits: CommandLimits = { signal, remainingMs: answerTimeoutMs };
  try {
    const status = await ended(agent, pid, endsAt, limits);
    if (status !== undefined) return result(status, request, startedAt, endOf(status, vm));
  } catch (error) {
    // Nobody waits for it any more; it must not go on for ever all the same.
    if (signal.aborted) void kill(agent, pid, answerTimeoutMs).catch(() => {});
    throw lostProcess(error, vm, pid);
  }
  const killed = await kill(agent, pid, answerTimeoutMs);
  return result(killed, request, startedAt, { by: 'timeout', killed: killed !== undefined });
}

function argumentsOf({ path, args, env, input, encoding }: ExecRequest) {
  const bytes = Buffer.from(input, encoding);
  if (encoding === 'base64' && bytes.toString('base64').replace(/=+$/, '') !== input.replace(/=+$/, '')) {
    throw new FairleadError('INVALID_PARAMS', 'params.input is no base64');
  }
  return {
    path,
    arg: args,
    'capture-output': true,
    ...(bytes.length > 0 && { 'input-data': bytes.toString('base64') }),
    ...(env !== undefined && { env: Object.entries(env).map(([name, value]) => `${name}=${value}`) }),
  };
}

/** Asks until it has ended; undefined when it has not by then. */
async function ended(agent: GuestAgentClient, pid: number, endsAt: number, limits: CommandLimits): Promise<Status | undefined> {
  for (let pauseMs: number = POLL_MS.first; ; pauseMs = Math.min(1.5 * pauseMs, POLL_MS.most)) {
    const status = await statusOf(agent, pid, limits);
    if (status.value.exited) return status;
    const leftMs = endsAt - performance.now();
    if (leftMs <= 0) return undefined;
    await orAborted(sleep(Math.min(pauseMs, leftMs)), limits.signal);
  }
}

/** Asked again where the answer was lost: with the agent's connection, or with the guest. */
async function statusOf(agent: GuestAgentClient, pid: number, limits: CommandLimits): Promise<Status> {
  try {
    return await agent.run('guest-exec-status', { pid }, limits);
  } catch (error) {
    const { code } = toFairleadError(error);
    if (limits.signal.aborted || (code !== 'GUEST_UNREACHABLE' && code !== 'INTERRUPTED')) throw error;
    return agent.run('guest-exec-status', { pid }, limits);
  }
}

/** Its last status; undefined when it is not known to be gone within `timeoutMs`. */
async function kill(agent: GuestAgentClient, pid: number, timeoutMs: number): Promise<Status | undefined> {
  const endsAt = performance.now() + timeoutMs;
  const { signal } = new AbortController();
  const limits = (): CommandLimits => ({ signal, remainingMs: Math.max(0, endsAt - performance.now()) });
  const run = (path: string, ...arg: string[]) => agent.run('guest-exec', { path, arg, 'capture-output': false }, limits());
  try {
    await run('/bin/sh', '-c', `${KILL_TREE} 2>/dev/null`, 'sh', `${pid}`);
  } catch {
    // A guest without a shell: its program alone, then.
    await run('kill', '-KILL', `${pid}`).catch(() => {});
  }
  return ended(agent, pid, endsAt, limits()).catch(() => undefined);
}

function endOf({ value: { exitcode, signal } }: Status, vm: string): ExecResult['ended'] {
  if (signal !== undefined) return { by: 'signal', signal };
  if (exitcode !== undefined) return { by: 'exit', code: exitcode };
  throw new FairleadError('PROTOCOL_ERROR', `the guest agent of VM ${vm} did not say how a program ended`);
}

/** An agent that was started again, or whose guest was, knows nothing of the processes of before. */
function lostProcess(thrown: unknown, vm: string, pid: number): FairleadError {
  const error = toFairleadError(thrown);
  if (error.code !== 'GUEST_FAILED') return error;
  const what = `the guest agent of VM ${vm} knows nothing of process ${pid} any more`;
  const why = 'the guest or its agent was started again meanwhile, or the last answer was lost';
  return new FairleadError('INTERRUPTED', `${what}: ${why}`, { cause: error });
}

function result(
  status: Status | undefined,
  { encoding, maxOutputBytes }: ExecRequest,
  startedAt: number,
  ending: ExecResult['ended'],
): ExecResult {
  const shown = (name: 'out-data' | 'err-data') =>
    shownOutput({ base64: status?.value[name] ?? '', cut: status?.cuts.get(name), encoding, maxBytes: maxOutputBytes });
  const [stdout, stderr] = [shown('out-data'), shown('err-data')];
  return {
    ended: ending,
    stdout: stdout.text,
    stderr: stderr.text,
    stdoutCutBytes: stdout.cutBytes,
    stderrCutBytes: stderr.cutBytes,
    durationMs: Math.round(performance.now() - startedAt),
  };
}
