/** Giving a VM that has no process another spec, in place of its own: what it is from its next start on. Its name, uuid and files stay. */
import { FairleadError } from '../../shared/errors.ts';
import type { VmInfo } from '../../shared/protocol/vm.ts';
import type { VmSpec } from '../../shared/protocol/vm-spec.ts';
import type { CallOptions, Vms } from './api.ts';
import { checkFiles, checkSpec } from './spec-check.ts';

/** @throws FairleadError WRONG_STATE where it has a process or sleeps, INVALID_PARAMS for another name, what `vm.create` throws of a spec */
export async function redefine(vms: Vms, name: string, spec: VmSpec, options: CallOptions): Promise<VmInfo> {
  if (spec.name !== name) {
    throw new FairleadError('INVALID_PARAMS', `params.spec.name: is ${spec.name}, but a VM keeps its name, ${name}`);
  }
  return await vms.atRest(name, 'redefining', options, async (vm) => {
    checkSpec(spec);
    await Promise.all([checkFiles(spec), vms.checkFiles(spec)]);
    await vm.changeSpec(spec);
    return vms.get(name);
  });
}
