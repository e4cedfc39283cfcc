/** The parent's side of programs/vm-manager.ts: an agent's VM manager that can be killed, and whose next one finds what it left. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Failpoint } from '../../agent/failpoint.ts';
import type { ManagerMethods, ManagerSettings } from './programs/vm-manager.ts';

export interface ManagerProcess extends AsyncDisposable {
  /** How long it took to find its VMs again. */
  readonly openedInMs: number;
  /** Rejects with the code of the error, or `killed`. */
  call<M extends keyof ManagerMethods>(method: M, ...args: Parameters<ManagerMethods[M]>): ReturnType<ManagerMethods[M]>;
  /** Settles when it has come to the failpoint that it was started with. */
  readonly atFailpoint: Promise<void>;
  /** With SIGKILL. Settles when it is gone. */
  kill(): Promise<void>;
}

const PROGRAM = fileURLToPath(new URL('./programs/vm-manager.ts', import.meta.url));

export async function startManager(settings: ManagerSettings, failpoint?: Failpoint): Promise<ManagerProcess> {
  const env = { ...process.env, ...(failpoint === undefined ? {} : { FAIRLEAD_FAILPOINT: failpoint }) };
  const child = fork(PROGRAM, [JSON.stringify(settings)], { env, stdio: ['ignore', 'inherit', 'pipe', 'ipc'] });
  const ended = once(child, 'exit');
  const pending = new Map<number, PromiseWithResolvers<unknown>>();
  const opened = Promise.withResolvers<unknown>();
  pending.set(0, opened);
  child.on('message', ({ id, result, error }: { id: number; result?: unknown; error?: string }) => {
    const call = pending.get(id);
    pending.delete(id);
    if (error === undefined) call?.resolve(result);
    else call?.reject(new Error(error));
  });
  const arrived = Promise.withResolvers<void>();
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    said += chunk.toString();
    if (said.includes(JSON.stringify({ failpoint }))) arrived.resolve();
  });
  void ended.then(([code]) => {
    for (const call of pending.values()) call.reject(new Error(code === null ? 'killed' : `ended with ${code}: ${said}`));
  });
  let lastId = 0;
  const openedInMs = Number(await opened.promise);
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL');
    await ended;
  };
  return {
    openedInMs,
    atFailpoint: arrived.promise,
    call: (method, ...args) => {
      const call = Promise.withResolvers<unknown>();
      pending.set(++lastId, call);
      child.send({ id: lastId, method, args });
      // SAFETY: what the program answers is what its method gives.
      return call.promise as ReturnType<ManagerMethods[typeof method]>;
    },
    kill,
    [Symbol.asyncDispose]: kill,
  };
}
