/**
 * What the methods on devices do, each as an operation on its VM (live-vm.ts), and the two moments at which record and QEMU are brought to
 * agree without anybody asking: when the agent has taken over its VMs, and when a guest lets go of a device that nobody waits for.
 */
import { FairleadError, toFairleadError } from '../../../shared/errors.ts';
import type { Params } from '../../../shared/protocol/methods.ts';
import type { VmState } from '../../../shared/protocol/vm.ts';
import type { Disk, Network } from '../../../shared/protocol/vm-spec-devices.ts';
import type { CallOptions, Logger, Vms } from '../api.ts';
import type { Deadline } from '../deadline.ts';
import type { CommandLimits, LiveVm } from '../live-vm.ts';
import { GUEST_STATES } from '../machine.ts';
import { attach, type CheckPolicy } from './attach.ts';
import { answerOf, askToDetach, type Leaving, leavingOf, listenForLeave, refused } from './detach.ts';
import { changeMedium } from './medium.ts';
import { DISKS, NETWORKS, type Placed, type Pluggable } from './pluggable.ts';
import { uncancelled } from './ports.ts';
import { reconcileDevices } from './reconcile.ts';
import { resizeDisk, throttleDisk } from './tune-disk.ts';
import { attachVsock, LEAVING_VSOCK } from './vsock.ts';

export interface DeviceOperationsOptions {
  readonly vms: Pick<Vms, 'operate' | 'get' | 'list' | 'events'>;
  readonly checkPolicy: CheckPolicy;
  readonly logger: Logger;
}

export interface Changed {
  readonly changed: boolean;
}

const LOOK_MS = 5_000;

/** A detach answers when the guest has followed, so the guest has to run. */
const DETACH_STATES: readonly VmState[] = ['running'];

export class DeviceOperations implements Disposable {
  readonly #options: DeviceOperationsOptions;
  /** Devices that a guest was asked to let go of and has not yet: VM, generation and id. */
  readonly #leaving = new Set<string>();
  #watching: Disposable | undefined;

  constructor(options: DeviceOperationsOptions) {
    this.#options = options;
  }

  attachDisk({ vm, id, disk }: Params<'disk.attach'>, options: CallOptions): Promise<Changed> {
    return this.#attach(vm, DISKS, { media: 'disk', ...disk, id }, options);
  }

  detachDisk({ vm, id }: Params<'disk.detach'>, options: CallOptions): Promise<Changed> {
    return this.#detach(vm, leavingOf(DISKS, id), options);
  }

  attachNetwork({ vm, id, network }: Params<'network.attach'>, options: CallOptions): Promise<Changed> {
    return this.#attach(vm, NETWORKS, { ...network, id }, options);
  }

  detachNetwork({ vm, id }: Params<'network.detach'>, options: CallOptions): Promise<Changed> {
    return this.#detach(vm, leavingOf(NETWORKS, id), options);
  }

  attachVsock({ vm, vsock }: Params<'vsock.attach'>, options: CallOptions): Promise<Changed> {
    const { checkPolicy } = this.#options;
    return this.#inTurn(vm, 'attaching a vsock to', options, (live, deadline) => {
      this.#requireStaying(live, LEAVING_VSOCK.what, LEAVING_VSOCK.id);
      return attachVsock(live, vsock, { deadline, checkPolicy });
    });
  }

  detachVsock({ vm }: Params<'vsock.detach'>, options: CallOptions): Promise<Changed> {
    return this.#detach(vm, LEAVING_VSOCK, options);
  }

  resizeDisk({ vm, id, bytes }: Params<'disk.resize'>, options: CallOptions): Promise<Changed> {
    return this.#inTurn(vm, `resizing disk ${id} of`, options, (live, deadline) =>
      resizeDisk(live, id, bytes, uncancelled(live, deadline)),
    );
  }

  throttleDisk({ vm, id, throttle }: Params<'disk.throttle'>, options: CallOptions): Promise<Changed> {
    return this.#inTurn(vm, `throttling disk ${id} of`, options, (live, deadline) =>
      throttleDisk(live, id, throttle, uncancelled(live, deadline)),
    );
  }

  changeMedium({ vm, ...request }: Params<'medium.change'>, options: CallOptions): Promise<Changed> {
    const { checkPolicy } = this.#options;
    return this.#inTurn(vm, `changing the medium of ${request.id} of`, options, (live, deadline) =>
      changeMedium(live, request, { deadline, checkPolicy }),
    );
  }

  /** From here on record and QEMU agree: first for every VM that runs, then whenever a guest lets go of something. */
  watch(): void {
    const { vms } = this.#options;
    this.#watching ??= vms.events.listen((event) => {
      if (event.type === 'vm.device-removed') void this.#reconcile(event.vm);
    });
    for (const { name, state } of vms.list()) {
      if (GUEST_STATES.includes(state)) void this.#reconcile(name);
    }
  }

  /** Looks at a VM whose record agrees with QEMU about its devices. @throws FairleadError while QEMU does not answer. */
  look<T>(vm: string, read: (live: LiveVm, limits: CommandLimits) => Promise<T> | T): Promise<T> {
    const operation = { doing: 'looking at the devices of', inTurn: true };
    return this.#options.vms.operate(vm, operation, { timeoutMs: LOOK_MS }, async (live, deadline) => {
      await this.#agree(live, deadline);
      return await read(live, uncancelled(live, deadline));
    });
  }

  /** As the record has it; undefined where it has none. @throws FairleadError while QEMU does not answer. */
  find(vm: string, id: string): Promise<Disk | Network | undefined> {
    return this.look(vm, ({ spec: { disks, networks } }) => [...disks, ...networks].find((device) => device.id === id));
  }

  [Symbol.dispose](): void {
    this.#watching?.[Symbol.dispose]();
  }

  #attach<Device extends Placed>(
    vm: string,
    kind: Pluggable<Device>,
    asked: Omit<Device, 'slot'> & { readonly id: string; readonly slot?: number | undefined },
    options: CallOptions,
  ): Promise<Changed> {
    const { checkPolicy } = this.#options;
    return this.#inTurn(vm, `attaching ${kind.noun} ${asked.id} to`, options, (live, deadline) => {
      this.#requireStaying(live, `${kind.noun} ${asked.id}`, asked.id);
      return attach(live, kind, asked, { deadline, checkPolicy });
    });
  }

  #detach(vm: string, leaving: Leaving, options: CallOptions): Promise<Changed> {
    const { what, id } = leaving;
    const doing = `detaching ${what} from`;
    const { vms } = this.#options;
    return vms.operate(vm, { doing, inTurn: false, states: DETACH_STATES }, options, async (live, deadline) => {
      using events = listenForLeave(live, id);
      const key = keyOf(live, id);
      const { changed } = await this.#inTurn(vm, doing, timeOf(deadline), async (same) => {
        const isAsked = await askToDetach(same, leaving, deadline);
        if (isAsked) this.#leaving.add(key);
        return isAsked;
      });
      if (!changed) return { changed };
      if ((await answerOf(live, what, events, deadline)) === 'refused') {
        this.#leaving.delete(key);
        throw refused(live, what);
      }
      return this.#inTurn(vm, doing, timeOf(deadline), (same) => this.#agree(same, deadline));
    });
  }

  #inTurn(
    vm: string,
    doing: string,
    options: CallOptions,
    run: (live: LiveVm, deadline: Deadline) => Promise<boolean>,
  ): Promise<Changed> {
    return this.#options.vms.operate(vm, { doing, inTurn: true }, options, async (live, deadline) => ({
      changed: await run(live, deadline),
    }));
  }

  /** A device that its guest may let go of at any moment is neither there nor away. */
  #requireStaying(live: LiveVm, what: string, id: string): void {
    if (!this.#leaving.has(keyOf(live, id))) return;
    throw new FairleadError(
      'CONFLICT',
      `the guest of VM ${live.name} has been asked to let go of ${what} and has not yet: wait, or take another id`,
      { details: { vm: live.name, id } },
    );
  }

  async #agree(live: LiveVm, deadline: Deadline): Promise<boolean> {
    const { ids } = await reconcileDevices(live, uncancelled(live, deadline));
    const staying = new Set([...ids].map((id) => keyOf(live, id)));
    for (const key of this.#leaving) {
      if (key.startsWith(`${live.name}/`) && !staying.has(key)) this.#leaving.delete(key);
    }
    return true;
  }

  /** In the background, so its failure goes to the log; the next operation on the devices of the VM tries again. */
  async #reconcile(vm: string): Promise<void> {
    try {
      await this.#inTurn(vm, 'looking at the devices of', {}, (live, deadline) => this.#agree(live, deadline));
    } catch (error) {
      const { code, message } = toFairleadError(error);
      if (code !== 'WRONG_STATE' && code !== 'NOT_FOUND')
        this.#options.logger.warn({ vm, error: message }, 'could not look at the devices of a VM');
    }
  }
}

/** What is left of an operation's time, for a part of it. */
function timeOf({ signal, remainingMs }: Deadline): CallOptions {
  return { signal, timeoutMs: remainingMs };
}

function keyOf({ name, generation }: LiveVm, id: string): string {
  return `${name}/${generation}/${id}`;
}
