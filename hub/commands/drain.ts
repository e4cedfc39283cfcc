/** Putting to rest every VM of a host that is to be worked on: each stopped or suspended by a command of its own, several at a time. */
import { newCommandId } from '../../shared/command-id.ts';
import { toFairleadError } from '../../shared/errors.ts';
import type { RequestContext } from '../../shared/jsonrpc/types.ts';
import type { Params, Result } from '../../shared/protocol/methods.ts';
import type { ReportedVm } from '../sessions/inventory.ts';
import type { Commands } from './commands.ts';

const AT_ONCE = 8;
/** Of these nothing runs. */
const AT_REST = new Set(['created', 'stopped', 'crashed', 'suspended']);

export interface DrainOptions {
  readonly commands: Commands;
  readonly vms: readonly ReportedVm[];
  readonly actor: string;
  readonly context: RequestContext;
}

type Drained = Pick<Result<'host.drain'>, 'rested' | 'failed'>;

/** Goes on with the others where one fails. */
export async function drainVms({ host, graceMs, suspend }: Params<'host.drain'>, options: DrainOptions): Promise<Drained> {
  const { commands, vms, actor, context } = options;
  const waiting = vms.filter(({ state }) => !AT_REST.has(state)).map(({ name }) => name);
  const drained: Drained = { rested: [], failed: [] };

  async function rest(vm: string): Promise<void> {
    const what = suspend ? { method: 'vm.suspend', params: { vm } } : { method: 'vm.stop', params: { vm, graceMs } };
    try {
      const ends = { whenOffline: 'fail', timeoutMs: context.remainingMs() } as const;
      await commands.call({ id: newCommandId(), host, ...what, actor, ...ends }, context);
      drained.rested.push(vm);
      context.progress({ vm });
    } catch (error) {
      const { code, message } = toFairleadError(error);
      drained.failed.push({ vm, code, message });
      context.progress({ vm, code, message });
    }
  }

  const worker = async () => {
    for (let vm = waiting.shift(); vm !== undefined && !context.cancellation.aborted; vm = waiting.shift()) await rest(vm);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  context.signal.throwIfAborted();
  return drained;
}
