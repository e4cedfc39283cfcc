/** Methods that act on VMs: policy first, then the VM manager. */
import type { Params, Result } from '../../../shared/protocol/methods.ts';
import type { VM_METHODS } from '../../../shared/protocol/methods-vm.ts';
import { pageFrom } from '../../../shared/protocol/paging.ts';
import type { ImagesOnDemand } from '../../images/on-demand.ts';
import type { EventsResult, Vms } from '../../vm/api.ts';
import { redefine } from '../../vm/redefine.ts';
import type { Policy } from '../policy.ts';
import type { HandlerContext, HandlersOf } from './types.ts';

export function vmHandlers(vms: Vms, policy: Policy, images: ImagesOnDemand): HandlersOf<typeof VM_METHODS> {
  return {
    'vm.create': ({ spec }, context) =>
      images.placed(spec, context, async (placed) => {
        await policy.checkSpec(placed);
        return vms.create(placed, context);
      }),
    'vm.run': ({ spec }, context) =>
      images.placed(spec, context, async (placed) => {
        await policy.checkSpec(placed);
        return vms.run(placed, context);
      }),
    'vm.redefine': ({ vm, spec }, context) =>
      images.placed(spec, context, async (placed) => {
        await policy.checkSpec(placed);
        await images.keepEarlier(vms.get(vm).spec);
        return redefine(vms, vm, placed, { signal: context.signal, timeoutMs: context.timeoutMs });
      }),
    'vm.start': ({ vm }, context) => vms.start(vm, context),
    'vm.get': ({ vm }) => vms.get(vm),
    'vm.list': (page) => {
      const { rows, next } = pageFrom(vms.list(), (vm) => vm.name, page);
      return { vms: [...rows], next };
    },
    'vm.pause': ({ vm }, context) => vms.pause(vm, context),
    'vm.resume': ({ vm }, context) => vms.resume(vm, context),
    'vm.reset': ({ vm }, context) => vms.reset(vm, context),
    'vm.powerdown': ({ vm }, context) => vms.powerdown(vm, context),
    'vm.stop': ({ vm, graceMs }, context) => vms.stop(vm, { graceMs, signal: context.signal, timeoutMs: context.timeoutMs }),
    'vm.delete': async ({ vm, force }, context) => {
      await vms.delete(vm, { force, signal: context.signal, timeoutMs: context.timeoutMs });
      return {};
    },
    'vm.qmp': async ({ vm, execute, arguments: args }, context) => {
      policy.checkQmp(execute, args, () => vms.get(vm).spec);
      const { cancellation: signal, timeoutMs } = context;
      return { return: await vms.qmp(vm, { execute, arguments: args }, { signal, timeoutMs }) };
    },
    'vm.events': (params, context) => events(vms, params, context),
    'vm.args': async (target, context) => {
      if ('vm' in target) return vms.args(target, context);
      const spec = images.planned(target.spec);
      await policy.checkSpec(spec);
      return vms.args({ spec }, context);
    },
    'vm.capabilities': ({ vm }) => vms.capabilities(vm),
  };
}

/** With `follow` the call lasts until its caller cancels it, or falls behind by more than the log holds. */
async function events(vms: Vms, params: Params<'vm.events'>, context: HandlerContext): Promise<Result<'vm.events'>> {
  const { vm, since, epoch, limit, follow } = params;
  const log = vms.events;
  // A VM that is gone may have left events; a name that nothing is known of is a slip, and would be followed for ever.
  if (vm !== undefined && log.query({ vm, limit: 1 }).events.length === 0) vms.get(vm);
  if (!follow) return fitting(log.query({ vm, since, epoch, limit }));
  const isOtherEpoch = epoch !== undefined && epoch !== log.epoch;
  const from = isOtherEpoch ? 0 : (since ?? log.lastSeq);
  for await (const event of log.follow({ vm, since: from, signal: context.signal })) context.progress(event);
  context.signal.throwIfAborted();
  return { epoch: log.epoch, events: [], missed: 0, lastSeq: log.lastSeq };
}

/** Room for events in an answer, which fits a message of 256 KiB. */
const MAX_EVENTS_BYTES = 192 * 1024;

/** The answer with as many of the oldest events as fit one message; at least one, since no event is that long. */
function fitting(answer: EventsResult): EventsResult {
  let bytes = 0;
  const end = answer.events.findIndex((event) => {
    bytes += Buffer.byteLength(JSON.stringify(event)) + 1;
    return bytes > MAX_EVENTS_BYTES;
  });
  if (end <= 0) return answer;
  const events = answer.events.slice(0, end);
  return { ...answer, events, lastSeq: events.at(-1)?.seq ?? answer.lastSeq };
}
