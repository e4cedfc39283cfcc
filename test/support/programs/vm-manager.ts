/** A VM manager in a process of its own, which a test can kill: calls come and results go as messages; see ../manager-process.ts. */
import { vhostUserTransport } from '../../../agent/streams/vhost-user.ts';
import { VmManager, type VmManagerOptions } from '../../../agent/vm/manager.ts';
import { toFairleadError } from '../../../shared/errors.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import { NO_VSOCK, silent } from '../vm.ts';

export type ManagerSettings = Omit<VmManagerOptions, 'vsock' | 'logger' | 'observer'> & {
  /** Path of vhost-device-vsock, for VMs with a vsock. */
  readonly vsockDaemon?: string | undefined;
};

export interface CallMessage {
  readonly id: number;
  readonly method: string;
  readonly args: readonly unknown[];
}

const startedAt = performance.now();
// SAFETY: the parent wrote it.
const { vsockDaemon, ...settings } = JSON.parse(process.argv[2] ?? '') as ManagerSettings;
const transport = vsockDaemon === undefined ? undefined : vhostUserTransport({ binary: vsockDaemon, logger: silent });
const vsock = transport === undefined ? NO_VSOCK : ({ available: true, transport } as const);
const manager = await VmManager.open({ ...settings, vsock, logger: silent });
process.send?.({ id: 0, result: performance.now() - startedAt });

const METHODS = {
  run: (spec: VmSpec) => manager.run(spec),
  start: (name: string) => manager.start(name),
  pause: (name: string) => manager.pause(name),
  resume: (name: string) => manager.resume(name),
  suspend: (name: string) => manager.suspend(name, { durability: 'process' }),
  stop: (name: string, graceMs: number) => manager.stop(name, { graceMs }),
  delete: (name: string) => manager.delete(name, { force: true }),
  list: async () => manager.list(),
  events: async () => manager.events.query({}),
};

process.on('message', (message: CallMessage) => void answer(message));

async function answer({ id, method, args }: CallMessage): Promise<void> {
  try {
    // SAFETY: the parent's `call` is typed by what stands above.
    const result = await (METHODS[method as keyof typeof METHODS] as (...args: unknown[]) => Promise<unknown>)(...args);
    process.send?.({ id, result });
  } catch (error) {
    process.send?.({ id, error: toFairleadError(error).code });
  }
}
process.once('disconnect', () => process.exit());

export type ManagerMethods = typeof METHODS;
