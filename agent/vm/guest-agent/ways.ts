/**
 * The way to a guest's agent, as the VM's spec has it: a virtio-serial port, whose host end is a unix socket of QEMU's, or a vsock port.
 * The one serves any guest that knows virtio, the other needs an agent that was started with `--method=vsock-listen`.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { FairleadError } from '../../../shared/errors.ts';
import type { LiveVm } from '../live-vm.ts';
import type { ClientOptions } from './client.ts';

/** A guest that is not up yet never answers on vsock, so a try is short and soon made again. */
const ATTEMPT_MS = 500;

/** @throws FairleadError GUEST_UNREACHABLE when the VM has been given no way to an agent. */
export function wayTo(vm: LiveVm): Pick<ClientOptions, 'way' | 'connect'> {
  const { guestAgent } = vm.spec;
  if (guestAgent === undefined) {
    const todo =
      "give it spec.guestAgent {via: 'virtio-serial'} or {via: 'vsock'}, run qemu-guest-agent in the guest, and start it again";
    throw new FairleadError('GUEST_UNREACHABLE', `VM ${vm.name} has no way to a guest agent: ${todo}`, {
      details: { vm: vm.name },
    });
  }
  if (guestAgent.via === 'virtio-serial') {
    return { way: 'over virtio-serial', connect: ({ signal }) => connectSocket(vm.paths.guestAgentSocket, vm.name, signal) };
  }
  const { port } = guestAgent;
  return {
    way: `on vsock port ${port}`,
    connect: ({ timeoutMs, signal }) => vm.dial({ port, timeoutMs: Math.min(timeoutMs, ATTEMPT_MS), signal }),
  };
}

async function connectSocket(path: string, vm: string, signal: AbortSignal): Promise<Duplex> {
  const socket: Socket = connect({ path });
  try {
    await once(socket, 'connect', { signal });
    return socket;
  } catch (error) {
    socket.destroy();
    signal.throwIfAborted();
    throw new FairleadError('GUEST_UNREACHABLE', `could not connect to the guest agent's socket of VM ${vm}`, { cause: error });
  }
}
