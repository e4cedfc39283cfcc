/** What running VMs may have of the host together: the sum of their CPUs and of the most memory that each can come to. */
import { FairleadError } from '../../../shared/errors.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';

export interface ShareLimits {
  /** Undefined is no limit, for both. */
  readonly maxCpus?: number | undefined;
  readonly maxMemoryBytes?: number | undefined;
}

interface Share {
  readonly cpus: number;
  readonly memoryBytes: number;
}

export class Shares {
  readonly #limits: ShareLimits;
  readonly #taken = new Map<string, Share>();

  constructor(limits: ShareLimits) {
    this.#limits = limits;
  }

  /** At once, so that two starts side by side cannot both get the last of it. @throws FairleadError LIMIT_EXCEEDED */
  take(spec: VmSpec): void {
    this.#check(spec, this.#sum());
    this.#taken.set(spec.name, shareOf(spec));
  }

  /** Whether it could be taken if no other VM ran. @throws FairleadError LIMIT_EXCEEDED */
  checkAlone(spec: VmSpec): void {
    this.#check(spec, { cpus: 0, memoryBytes: 0 });
  }

  /** A VM that runs already has what it has. */
  adopt(spec: VmSpec): void {
    this.#taken.set(spec.name, shareOf(spec));
  }

  free(name: string): void {
    this.#taken.delete(name);
  }

  #check(spec: VmSpec, others: Share): void {
    const { cpus, memoryBytes } = shareOf(spec);
    const { maxCpus = Number.POSITIVE_INFINITY, maxMemoryBytes = Number.POSITIVE_INFINITY } = this.#limits;
    const refuse = (wanted: string, taken: string, setting: string): never => {
      const message = `VM ${spec.name} wants ${wanted}, and other VMs that run have ${taken}`;
      throw new FairleadError('LIMIT_EXCEEDED', `${message}: stop one, or the host's owner can raise ${setting}`, {
        details: { vm: spec.name, setting },
      });
    };
    if (others.cpus + cpus > maxCpus) refuse(`${cpus} CPUs`, `${others.cpus} of ${maxCpus}`, 'maxCpus');
    if (others.memoryBytes + memoryBytes > maxMemoryBytes) {
      refuse(`${inMib(memoryBytes)} of memory`, `${inMib(others.memoryBytes)} of ${inMib(maxMemoryBytes)}`, 'maxMemory');
    }
  }

  #sum(): Share {
    const shares = [...this.#taken.values()];
    return {
      cpus: shares.reduce((sum, { cpus }) => sum + cpus, 0),
      memoryBytes: shares.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0),
    };
  }
}

function shareOf({ cpus, memory }: VmSpec): Share {
  return { cpus: cpus.count, memoryBytes: memory.maxBytes ?? memory.bytes };
}

function inMib(bytes: number): string {
  return `${Math.ceil(bytes / 1024 ** 2)} MiB`;
}
