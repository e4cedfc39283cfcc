/**
 * What became of a command on devices that was under way when the agent died. Record and QEMU are brought to agree first, so the record
 * then says what the guest has:
 *
 *     attach      done when the VM has that very device, not done when it has none of that id, else unknown
 *     detach      done when it has it no more, not done when it still has it: the guest was perhaps asked, and may be asked again
 *     resize      done when the guest sees that size, not done when it sees a smaller one, else unknown
 *     throttle    done when QEMU and record both have these limits, else not done
 *     medium      done when QEMU and record both say that it is in the drive, else not done
 *
 * A VM that does not run has no devices to look at: unknown. So is what became of a command while another for the same VM was under way:
 * of an attach and a detach after it, only the detach shows.
 */
import { isDeepStrictEqual } from 'node:util';
import { imageOf } from '../../shared/protocol/image-ref.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { standsOn } from '../images/stands-on.ts';
import type { DeviceOperations } from '../vm/devices/device-operations.ts';
import { isMediumSo, isThrottledSo, sizeOfDisk } from '../vm/devices/look-at-disk.ts';
import type { Reconciliation } from './operation-record.ts';
import { ANOTHER, type Reconciler, type Reconcilers } from './reconcile.ts';

export function deviceReconcilers(devices: DeviceOperations): Reconcilers {
  return Object.fromEntries(Object.entries(rulesOf(devices)).map(([method, rule]) => [method, ifAlone(rule)]));
}

function ifAlone(rule: Reconciler): Reconciler {
  return (operation, vms, about) => (about.isAlone ? rule(operation, vms, about) : { outcome: 'unknown', reason: ANOTHER });
}

function rulesOf(devices: DeviceOperations): Reconcilers {
  return {
    'disk.attach': async ({ params }) => {
      const { vm, id, disk } = parseParams('disk.attach', params);
      const found = await devices.find(vm, id);
      return attached(id, found, await asPlaced(disk, found));
    },
    'network.attach': async ({ params }) => {
      const { vm, id, network } = parseParams('network.attach', params);
      return attached(id, await devices.find(vm, id), network);
    },
    'vsock.attach': async ({ params }) => {
      const { vm, vsock } = parseParams('vsock.attach', params);
      return attached('vsock', await devices.look(vm, ({ spec }) => spec.vsock), vsock);
    },
    'disk.detach': async ({ params }) => {
      const { vm, id } = parseParams('disk.detach', params);
      return detached(id, await devices.find(vm, id));
    },
    'network.detach': async ({ params }) => {
      const { vm, id } = parseParams('network.detach', params);
      return detached(id, await devices.find(vm, id));
    },
    'vsock.detach': async ({ params }) => {
      const { vm } = parseParams('vsock.detach', params);
      return detached('vsock', await devices.look(vm, ({ spec }) => spec.vsock));
    },
    'disk.resize': async ({ params }) => {
      const { vm, id, bytes } = parseParams('disk.resize', params);
      const size = await devices.look(vm, (live, limits) => sizeOfDisk(live, id, limits));
      const reason = `${id} has ${size} bytes`;
      if (size === bytes) return done(reason);
      return { outcome: size < bytes ? 'not-done' : 'unknown', reason };
    },
    'disk.throttle': async ({ params }) => {
      const { vm, ...wanted } = parseParams('disk.throttle', params);
      const isSo = await devices.look(vm, (live, limits) => isThrottledSo(live, wanted, limits));
      return isSo ? done(`${wanted.id} has these limits`) : notDone(`${wanted.id} has other limits`);
    },
    'medium.change': async ({ params }) => {
      const { vm, ...asked } = parseParams('medium.change', params);
      const wanted = await asPlaced(asked, await devices.find(vm, asked.id));
      const isSo = await devices.look(vm, (live, limits) => isMediumSo(live, wanted, limits));
      return isSo ? done(`that is how ${wanted.id} is`) : notDone(`${wanted.id} has another medium, or none`);
    },
  };
}

/** An image is asked for by its digest, and found as a file. */
async function asPlaced<F extends { readonly path?: string | undefined }>(asked: F, found: object | undefined): Promise<F> {
  const image = asked.path === undefined ? undefined : imageOf(asked.path);
  if (image === undefined || found === undefined || !('path' in found) || typeof found.path !== 'string') return asked;
  if (!(await standsOn(found.path, image))) return asked;
  return { ...asked, path: found.path, ...('format' in found ? { format: found.format } : {}) };
}

function attached(id: string, found: object | undefined, asked: object): Reconciliation {
  if (found === undefined) return notDone(`the VM has no ${id}`);
  const isSame = Object.entries(asked).every(([key, value]) => isDeepStrictEqual(Reflect.get(found, key), value));
  return isSame ? done(`the VM has ${id}`) : { outcome: 'unknown', reason: `the VM has another ${id}` };
}

function detached(id: string, found: object | undefined): Reconciliation {
  return found === undefined ? done(`the VM has no ${id} any more`) : notDone(`the VM still has ${id}`);
}

function done(reason: string): Reconciliation {
  return { outcome: 'done', reason, result: { changed: true } };
}

function notDone(reason: string): Reconciliation {
  return { outcome: 'not-done', reason };
}
