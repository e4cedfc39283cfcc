/**
 * What people type on a VM's serial console: from everybody into one pipe, in the order in which it comes. It is open from the first
 * that is typed until the last who may type has left, and never longer than the VM's process lives, so that nothing is left in it for
 * the next.
 */
import type { Socket } from 'node:net';
import { FairleadError } from '../../../shared/errors.ts';
import type { LiveVm } from '../live-vm.ts';
import { openConsoleInput } from './console-pipes.ts';

class ConsoleInput {
  readonly #vm: LiveVm;
  #users = 0;
  #pipe: Socket | undefined;

  constructor(vm: LiveVm) {
    this.#vm = vm;
    vm.signal.addEventListener('abort', () => this.#pipe?.destroy(), { once: true });
  }

  enter(): void {
    this.#users += 1;
  }

  leave(): void {
    this.#users -= 1;
    if (this.#users === 0) this.#pipe?.end();
  }

  /** Settles when the guest has taken it, or the pipe, which holds 64 KiB. */
  async write(bytes: Uint8Array): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#opened().write(bytes, (error) => (error ? reject(error) : resolve()));
    try {
      await promise;
    } catch (error) {
      throw new FairleadError('INTERRUPTED', `the console of VM ${this.#vm.name} takes no more input`, { cause: error });
    }
  }

  #opened(): Socket {
    if (this.#pipe !== undefined && this.#pipe.writable) return this.#pipe;
    this.#vm.signal.throwIfAborted();
    this.#pipe = openConsoleInput(this.#vm.paths, this.#vm.name).on('error', () => {});
    return this.#pipe;
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
