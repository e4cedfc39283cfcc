/**
 * What people type on a VM's serial console. QEMU serves one client of the console's socket, and that is the agent: it connects when
 * somebody first types, writes what comes from everybody in the order in which it comes, and leaves with the last of them.
 *
 * What the guest writes is not read here: QEMU appends it to the console's log, whether or not anybody is connected, and the log is what
 * everybody watches. But QEMU writes it to its client as well and waits for it, guest and log with it, so it is taken at once and dropped.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { FairleadError } from '../../../shared/errors.ts';
import type { LiveVm } from '../live-vm.ts';

class ConsoleInput {
  readonly #vm: LiveVm;
  #users = 0;
  #socket: Promise<Socket> | undefined;

  constructor(vm: LiveVm) {
    this.#vm = vm;
  }

  enter(): void {
    this.#users += 1;
  }

  leave(): void {
    this.#users -= 1;
    if (this.#users > 0) return;
    this.#socket?.then((socket) => socket.end()).catch(() => {});
    this.#socket = undefined;
  }

  /** Settles when the guest has taken it, or QEMU's own small buffer has. */
  async write(bytes: Uint8Array): Promise<void> {
    this.#socket ??= this.#connect();
    const socket = await this.#socket;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    socket.write(bytes, (error) => (error ? reject(error) : resolve()));
    try {
      await promise;
    } catch (error) {
      throw new FairleadError('INTERRUPTED', `the console of VM ${this.#vm.name} took no more input`, { cause: error });
    }
  }

  async #connect(): Promise<Socket> {
    const { paths, signal, name } = this.#vm;
    const socket = connect({ path: paths.consoleSocket });
    const forget = (): void => {
      this.#socket = undefined;
    };
    try {
      await once(socket, 'connect', { signal });
    } catch (error) {
      socket.destroy();
      forget();
      throw new FairleadError('INTERRUPTED', `could not connect to the console of VM ${name}`, { cause: error });
    }
    socket.on('error', () => {}).on('close', forget);
    socket.resume();
    return socket;
  }
}

/** By the signal of the VM's life. */
const inputs = new WeakMap<AbortSignal, ConsoleInput>();

export interface ConsoleWriter {
  write(bytes: Uint8Array): Promise<void>;
  leave(): void;
}

export function enterConsole(vm: LiveVm): ConsoleWriter {
  const input = inputs.get(vm.signal) ?? new ConsoleInput(vm);
  inputs.set(vm.signal, input);
  input.enter();
  return { write: (bytes) => input.write(bytes), leave: () => input.leave() };
}
