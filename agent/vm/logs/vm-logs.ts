/** The logs of a VM as streams, whether it runs or not: `vm.logs`. */
import type { Duplex } from 'node:stream';
import type { Params } from '../../../shared/protocol/methods.ts';
import type { LogSource, Vms } from '../api.ts';
import { LogChanges } from './log-changes.ts';
import { logStream } from './log-stream.ts';
import { beginOfTail, type Tail } from './log-tail.ts';

export interface OpenedLog {
  readonly stream: Duplex;
  /** How much of what comes was there before. */
  readonly historyBytes: number;
}

export interface LogRequest {
  readonly vm: string;
  readonly source: LogSource;
  readonly tail: Tail;
  readonly follow: boolean;
  readonly end?: AbortSignal | undefined;
  readonly input?: ((bytes: Uint8Array) => Promise<void>) | undefined;
}

/** @throws FairleadError NOT_FOUND */
export async function openVmLog(vms: Pick<Vms, 'openLog'>, params: Params<'vm.logs'>): Promise<OpenedLog> {
  const { tailLines, tailBytes, ...rest } = params;
  return openLog(vms, { ...rest, tail: { lines: tailLines, bytes: tailBytes } });
}

export async function openLog(vms: Pick<Vms, 'openLog'>, request: LogRequest): Promise<OpenedLog> {
  const { vm, source, tail, ...rest } = request;
  await using undo = new AsyncDisposableStack();
  const inUse = undo.use(await vms.openLog(vm, source));
  const changes = undo.use(new LogChanges(inUse.log.path));
  const position = await beginOfTail(inUse.log, tail);
  const { end } = await inUse.log.extent();
  undo.move();
  return { stream: logStream({ ...rest, inUse, changes, position }), historyBytes: end - position };
}
