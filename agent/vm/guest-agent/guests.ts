/** What can be asked of the guests of this host, by their agents: the `guest.*` methods. */
import { toFairleadError } from '../../../shared/errors.ts';
import type { Params, Result } from '../../../shared/protocol/methods.ts';
import type { CallOptions, Logger, Vms } from '../api.ts';
import type { CommandLimits, LiveVm } from '../live-vm.ts';
import { GUEST_STATES } from '../machine.ts';
import { execInGuest } from './exec.ts';
import { FreezeLeases } from './freeze.ts';
import { guestAgentOf } from './guest-agents.ts';
import { guestInfo } from './guest-info.ts';
import { setGuestClock } from './set-clock.ts';
import { shutdownGuest } from './shutdown.ts';

type GuestVms = Pick<Vms, 'operate' | 'list'>;

export class Guests implements Disposable {
  readonly #vms: GuestVms;
  readonly #logger: Logger;
  readonly #leases: FreezeLeases;

  constructor(vms: GuestVms, logger: Logger) {
    this.#vms = vms;
    this.#logger = logger;
    this.#leases = new FreezeLeases(vms, logger);
  }

  [Symbol.dispose](): void {
    this.#leases[Symbol.dispose]();
  }

  /** After a start of the agent: what an earlier one froze is thawed in its time. Never rejects. */
  async takeUp(): Promise<void> {
    const there = this.#vms.list().filter(({ state }) => GUEST_STATES.includes(state));
    await Promise.all(
      there.map(async ({ name }) => {
        const operation = { doing: 'looking for frozen file systems of', inTurn: false } as const;
        try {
          await this.#vms.operate(name, operation, {}, (vm) => this.#leases.takeUp(vm));
        } catch (error) {
          this.#logger.warn({ vm: name, error: toFairleadError(error).message }, 'could not tell whether a VM is frozen');
        }
      }),
    );
  }

  ping(params: Params<'guest.ping'>, options: CallOptions): Promise<Result<'guest.ping'>> {
    return this.#ask('pinging', params, options, async (vm, limits) => {
      const agent = guestAgentOf(vm);
      // The first makes the connection.
      await agent.run('guest-ping', {}, limits);
      const startedAt = performance.now();
      await agent.run('guest-ping', {}, limits);
      return { roundTripMs: Math.round((performance.now() - startedAt) * 1000) / 1000 };
    });
  }

  info(params: Params<'guest.info'>, options: CallOptions): Promise<Result<'guest.info'>> {
    return this.#ask('asking', params, options, (vm, limits) => guestInfo(guestAgentOf(vm), limits));
  }

  exec(params: Params<'guest.exec'>, options: CallOptions): Promise<Result<'guest.exec'>> {
    const { vm: name, answerTimeoutMs, ...request } = params;
    return this.#ask('running a program in', params, options, (vm, { signal }) =>
      execInGuest(guestAgentOf(vm), request, { vm: name, signal, answerTimeoutMs }),
    );
  }

  fsfreeze(params: Params<'guest.fsfreeze'>, options: CallOptions): Promise<Result<'guest.fsfreeze'>> {
    return this.#ask('freezing or thawing', params, options, (vm, limits) => {
      if (params.action === 'freeze') return this.#leases.freeze(vm, params.holdMs, limits);
      return params.action === 'thaw' ? this.#leases.thaw(vm, limits) : this.#leases.status(vm, limits);
    });
  }

  setTime(params: Params<'guest.setTime'>, options: CallOptions): Promise<Result<'guest.setTime'>> {
    return this.#ask('setting the clock of', params, options, async (vm, limits) => ({
      time: await setGuestClock(vm, limits, params.time),
    }));
  }

  shutdown(params: Params<'guest.shutdown'>, options: CallOptions): Promise<Result<'guest.shutdown'>> {
    return this.#ask('shutting down', params, options, async (vm, limits) => {
      await shutdownGuest(vm, limits, params.mode);
      return { state: vm.state };
    });
  }

  /** Not in turn: a program may run for hours. A guest that is paused says nothing, so it is not asked. */
  #ask<T>(
    doing: string,
    { vm: name, answerTimeoutMs }: { readonly vm: string; readonly answerTimeoutMs: number },
    { signal, timeoutMs = Number.POSITIVE_INFINITY }: CallOptions,
    ask: (vm: LiveVm, limits: CommandLimits) => Promise<T>,
  ): Promise<T> {
    const operation = { doing, inTurn: false, wakes: true, states: ['running'] } as const;
    return this.#vms.operate(name, operation, { signal, timeoutMs }, (vm, deadline) =>
      ask(vm, { signal: deadline.signal, remainingMs: Math.min(answerTimeoutMs, deadline.remainingMs) }),
    );
  }
}
