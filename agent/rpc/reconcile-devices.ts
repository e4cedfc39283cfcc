/**
 * What became of a command on devices that was under way when the agent died. Record and QEMU are brought to agree first, so the record
 * then says what the guest has:
 *
 *     attach   done when the VM has that very device, not done when it has none of that id, else unknown
 *     detach   done when it has it no more, not done when it still has it: the guest was perhaps asked, and may be asked again
 */
import { isDeepStrictEqual } from 'node:util';
import { parseParams } from '../../shared/protocol/validate.ts';
import type { DeviceOperations } from '../vm/devices/device-operations.ts';
import type { Reconciliation } from './operation-record.ts';
import type { Reconcilers } from './reconcile.ts';

export function deviceReconcilers(devices: DeviceOperations): Reconcilers {
  return {
    'disk.attach': ({ params }) => {
      const { vm, id, disk } = parseParams('disk.attach', params);
      return attached(devices, { vm, id }, disk);
    },
    'network.attach': ({ params }) => {
      const { vm, id, network } = parseParams('network.attach', params);
      return attached(devices, { vm, id }, network);
    },
    'disk.detach': ({ params }) => detached(devices, parseParams('disk.detach', params)),
    'network.detach': ({ params }) => detached(devices, parseParams('network.detach', params)),
  };
}

interface Named {
  readonly vm: string;
  readonly id: string;
}

async function attached(devices: DeviceOperations, { vm, id }: Named, asked: object): Promise<Reconciliation> {
  const found = await devices.find(vm, id);
  if (found === undefined) return { outcome: 'not-done', reason: `the VM has no ${id}` };
  const isSame = Object.entries(asked).every(([key, value]) => isDeepStrictEqual(Reflect.get(found, key), value));
  return isSame ? done(`the VM has ${id}`) : { outcome: 'unknown', reason: `the VM has another device ${id}` };
}

async function detached(devices: DeviceOperations, { vm, id }: Named): Promise<Reconciliation> {
  const found = await devices.find(vm, id);
  return found === undefined ? done(`the VM has no ${id} any more`) : { outcome: 'not-done', reason: `the VM still has ${id}` };
}

function done(reason: string): Reconciliation {
  return { outcome: 'done', reason, result: { changed: true } };
}
