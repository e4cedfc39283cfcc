/**
 * What became of a command on devices that was under way when the agent died. Record and QEMU are brought to agree first, so the record
 * then says what the guest has:
 *
 *     attach   done when the VM has that very device, not done when it has none of that id, else unknown
 *     detach   done when it has it no more, not done when it still has it: the guest was perhaps asked, and may be asked again
 */
import * as v from 'valibot';
import type { JsonObject } from '../../shared/errors.ts';
import type { AgentMethodName } from '../../shared/protocol/methods.ts';
import { methodContract } from '../../shared/protocol/methods.ts';
import type { Operation } from '../../shared/protocol/methods-operation.ts';
import type { DeviceOperations } from '../vm/devices/device-operations.ts';
import type { Reconciliation } from './operation-record.ts';
import type { Reconciler, Reconcilers } from './reconcile.ts';

type Attach = Extract<AgentMethodName, 'disk.attach' | 'network.attach'>;
type Detach = Extract<AgentMethodName, 'disk.detach' | 'network.detach'>;

export function deviceReconcilers(devices: DeviceOperations): Reconcilers {
  return {
    'disk.attach': attached('disk.attach', 'disk', devices),
    'disk.detach': detached('disk.detach', devices),
    'network.attach': attached('network.attach', 'network', devices),
    'network.detach': detached('network.detach', devices),
  };
}

function attached(method: Attach, member: 'disk' | 'network', devices: DeviceOperations): Reconciler {
  return async (operation) => {
    const params = paramsOf(method, operation);
    const { vm, id } = params;
    const found = await devices.find(String(vm), String(id));
    if (found === undefined) return { outcome: 'not-done', reason: `the VM has no ${member} ${String(id)}` };
    const asked = params[member];
    const isSame =
      typeof asked === 'object' && asked !== null && Object.entries(asked).every(([key, value]) => sameMember(found, key, value));
    return isSame ? done(`the VM has ${member} ${String(id)}`) : unknown(`the VM has another device ${String(id)}`);
  };
}

function detached(method: Detach, devices: DeviceOperations): Reconciler {
  return async (operation) => {
    const { vm, id } = paramsOf(method, operation);
    const found = await devices.find(String(vm), String(id));
    return found === undefined
      ? done(`the VM has no ${String(id)} any more`)
      : { outcome: 'not-done', reason: `the VM still has ${String(id)}` };
  };
}

/** With defaults filled in, as the record has them. @throws where the journal left the params out, so that the outcome is unknown. */
function paramsOf(method: Attach | Detach, { params }: Operation): JsonObject {
  // SAFETY: the params of every method are an object of JSON values (a test holds the table to that).
  return v.parse(methodContract(method).params, params) as JsonObject;
}

function sameMember(found: object, key: string, value: unknown): boolean {
  return JSON.stringify(Reflect.get(found, key)) === JSON.stringify(value);
}

function done(reason: string): Reconciliation {
  return { outcome: 'done', reason, result: { changed: true } };
}

function unknown(reason: string): Reconciliation {
  return { outcome: 'unknown', reason };
}
