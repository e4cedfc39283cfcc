/** Methods that act on VMs: policy first, then the VM manager. */
import type { Params, Result } from '../../../shared/protocol/methods.ts';
import { pageFrom } from '../../../shared/protocol/paging.ts';
import type { Vms } from '../../vm/api.ts';
import type { Policy } from '../policy.ts';
import type { HandlerContext, Handlers } from './types.ts';

export function vmHandlers(vms: Vms, policy: Policy): Omit<Handlers, 'host.info'> {
  return {
    'vm.create': async ({ spec }, context) => {
      await policy.checkSpec(spec);
      return vms.create(spec, context);
    },
    'vm.run': async ({ spec }, context) => {
      await policy.checkSpec(spec);
      return vms.run(spec, context);
    },
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
      policy.checkQmp(execute);
      return { return: await vms.qmp(vm, { execute, arguments: args }, context) };
    },
    'vm.events': (params, context) => events(vms, params, context),
    'vm.args': async (target, context) => {
      if ('spec' in target) await policy.checkSpec(target.spec);
      return vms.args(target, context);
    },
    'vm.capabilities': ({ vm }) => vms.capabilities(vm),
  };
}

/** With `follow` the call lasts until its caller cancels it, or falls behind by more than the log holds. */
async function events(vms: Vms, params: Params<'vm.events'>, context: HandlerContext): Promise<Result<'vm.events'>> {
  const { vm, since, limit, follow } = params;
  if (!follow) return vms.events.query({ vm, since, limit });
  const from = since ?? vms.events.lastSeq;
  for await (const event of vms.events.follow({ vm, since: from, signal: context.signal })) context.progress(event);
  context.signal.throwIfAborted();
  return vms.events.query({ vm, since: vms.events.lastSeq, limit });
}
