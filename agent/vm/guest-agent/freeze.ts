/**
 * Guests whose file systems are frozen, each on a lease: who froze them may die, and a guest that cannot write any more is soon a guest
 * that hangs.
 *
 *     thawed ── freeze: lease noted, frozen, timer set ──▶ held ── freeze again: the time begins anew ──▶ held
 *        ▲                                                        │
 *        └── thaw; time over (tried until it works); the VM is gone ┘
 *
 * The note lies beside the VM's record, where QEMU's user writes nothing, and is good for one life of the VM: an agent that starts anew finds
 * it and keeps the lease.
 */
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as v from 'valibot';
import { toFairleadError } from '../../../shared/errors.ts';
import { Count, Timestamp } from '../../../shared/protocol/common.ts';
import type { Result } from '../../../shared/protocol/methods.ts';
import type { Logger, Vms } from '../api.ts';
import { writeFileAtomic } from '../atomic-file.ts';
import type { CommandLimits, LiveVm } from '../live-vm.ts';
import { guestAgentOf } from './guest-agents.ts';

export type FreezeResult = Result<'guest.fsfreeze'>;

/** Flushing what is dirty takes the guest's disks their time. */
const FREEZE_MS = 60_000;
const THAW_MS = 30_000;
const THAW_AGAIN_MS = { first: 1_000, most: 30_000 } as const;

const Note = v.strictObject({ generation: Count, thawsAt: Timestamp });
/** The contract's most: after a clock that was set back, an earlier agent's lease seems to be longer. */
const MOST_HOLD_MS = 3_600_000;

export class FreezeLeases implements Disposable {
  readonly #vms: Pick<Vms, 'operate'>;
  readonly #logger: Logger;
  readonly #over = new AbortController();
  readonly #timers = new Map<string, AbortController>();

  constructor(vms: Pick<Vms, 'operate'>, logger: Logger) {
    this.#vms = vms;
    this.#logger = logger;
  }

  /** The notes stay, for the next agent. */
  [Symbol.dispose](): void {
    this.#over.abort();
  }

  async freeze(vm: LiveVm, holdMs: number, limits: CommandLimits): Promise<FreezeResult> {
    const agent = guestAgentOf(vm);
    const { value: status } = await agent.run('guest-fsfreeze-status', {}, limits);
    // Noted before the freeze: from here on, whatever becomes of this agent, somebody thaws.
    const thawsAt = new Date(Date.now() + holdMs).toISOString();
    await writeFileAtomic(noteOf(vm), JSON.stringify({ generation: vm.generation, thawsAt }));
    if (status === 'frozen') {
      this.#thawAt(vm, thawsAt);
      return { status, fileSystems: 0, thawsAt };
    }
    try {
      const { value } = await agent.run('guest-fsfreeze-freeze', {}, limits, FREEZE_MS);
      if (value > 0) {
        this.#thawAt(vm, thawsAt);
        return { status: 'frozen', fileSystems: value, thawsAt };
      }
    } catch (error) {
      // It may have frozen some, or be about to.
      this.#thawAt(vm, new Date().toISOString());
      throw error;
    }
    await this.#end(vm);
    return { status: 'thawed', fileSystems: 0 };
  }

  async thaw(vm: LiveVm, limits: CommandLimits): Promise<FreezeResult> {
    const { value } = await guestAgentOf(vm).run('guest-fsfreeze-thaw', {}, limits, THAW_MS);
    await this.#end(vm);
    return { status: 'thawed', fileSystems: value };
  }

  async status(vm: LiveVm, limits: CommandLimits): Promise<FreezeResult> {
    const { value: status } = await guestAgentOf(vm).run('guest-fsfreeze-status', {}, limits);
    const thawsAt = status === 'frozen' ? await frozenUntil(vm) : undefined;
    return { status, fileSystems: 0, ...(thawsAt !== undefined && { thawsAt }) };
  }

  /** Keeps the lease that an earlier agent gave, if there is one. */
  async takeUp(vm: LiveVm): Promise<void> {
    const thawsAt = await frozenUntil(vm);
    if (thawsAt === undefined) return;
    this.#logger.info({ vm: vm.name, thawsAt }, 'the file systems of a VM were frozen by an earlier agent');
    this.#thawAt(vm, thawsAt);
  }

  async #end(vm: LiveVm): Promise<void> {
    this.#timers.get(vm.name)?.abort();
    this.#timers.delete(vm.name);
    await rm(noteOf(vm), { force: true });
  }

  #thawAt({ name, generation }: LiveVm, thawsAt: string): void {
    this.#timers.get(name)?.abort();
    const timer = new AbortController();
    this.#timers.set(name, timer);
    const signal = AbortSignal.any([timer.signal, this.#over.signal]);
    const holdMs = Math.min(Math.max(0, Date.parse(thawsAt) - Date.now()), MOST_HOLD_MS);
    this.#thawAfter({ name, generation, holdMs, signal }).catch((error: unknown) => {
      if (!signal.aborted) this.#logger.error({ vm: name, error: toFairleadError(error).message }, 'could not thaw a VM');
    });
  }

  async #thawAfter(lease: { name: string; generation: number; holdMs: number; signal: AbortSignal }): Promise<void> {
    const { name, generation, holdMs, signal } = lease;
    await sleep(holdMs, undefined, { signal, ref: false });
    for (let pauseMs: number = THAW_AGAIN_MS.first; ; pauseMs = Math.min(2 * pauseMs, THAW_AGAIN_MS.most)) {
      try {
        const operation = { doing: 'thawing the file systems of', inTurn: false } as const;
        await this.#vms.operate(name, operation, { timeoutMs: THAW_MS, signal }, async (vm, deadline) => {
          if (vm.generation === generation) await this.thaw(vm, deadline);
        });
        this.#logger.warn({ vm: name }, 'thawed the file systems of a VM: their time was over');
        return;
      } catch (error) {
        signal.throwIfAborted();
        const { code, message } = toFairleadError(error);
        // The VM is gone, and its lease with it.
        if (code === 'NOT_FOUND' || code === 'WRONG_STATE') return;
        this.#logger.warn({ vm: name, error: message }, 'could not thaw the file systems of a VM yet');
      }
      await sleep(pauseMs, undefined, { signal, ref: false });
    }
  }
}

/** Where the note is, and of which life it has to be. */
type NotedVm = Pick<LiveVm, 'paths' | 'generation'>;

function noteOf(vm: NotedVm): string {
  return join(vm.paths.dir, 'frozen.json');
}

/** Undefined where there is no note of this life of the VM; one that cannot be understood counts as over. */
export async function frozenUntil(vm: NotedVm): Promise<string | undefined> {
  let text: string;
  try {
    text = await readFile(noteOf(vm), 'utf8');
  } catch {
    return undefined;
  }
  try {
    const { generation, thawsAt } = v.parse(Note, JSON.parse(text));
    return generation === vm.generation ? thawsAt : undefined;
  } catch {
    return new Date(0).toISOString();
  }
}
