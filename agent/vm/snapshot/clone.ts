/**
 * VMs from one saved guest, each with an identity of its own:
 *
 *     name, uuid, vmgenid    of its own, as at any start
 *     disks                  an overlay of its own on the frozen one
 *     RAM                    the snapshot's, copy on write; or a copy, where a device needs memory that others see, or gives memory back
 *     networks, vsock        not in the saved guest; plugged when it runs, with MAC addresses and a CID of their own
 *     random numbers         seeded anew by vmgenid, and where an agent in the guest answers by that
 *     clock, host name       set, where an agent in the guest answers
 *
 * All of them are made or none is, also when the agent dies meanwhile (clone-intent.ts).
 */
import { FairleadError, toFairleadError } from '../../../shared/errors.ts';
import type { Result } from '../../../shared/protocol/methods.ts';
import type { VmInfo } from '../../../shared/protocol/vm.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import type { Network } from '../../../shared/protocol/vm-spec-devices.ts';
import { failpoint } from '../../failpoint.ts';
import type { CallOptions } from '../api.ts';
import { Deadline } from '../deadline.ts';
import { CloneLog } from './clone-intent.ts';
import type { SnapshotTools } from './create.ts';
import type { Manifest } from './manifest.ts';
import { restorationOf } from './restoration.ts';
import { plugBack, type Unplugged, withoutLostAgent } from './unplug.ts';

export interface CloneTools extends SnapshotTools {
  /** The transport of this host, where it has one. */
  readonly vsockKind: 'vhost-vsock' | 'vhost-user' | undefined;
  /** Gives a guest random numbers of its own by its agent. @throws FairleadError where it does not answer, or cannot. */
  readonly seedGuest: (
    vm: string,
    options: { timeoutMs: number; answerTimeoutMs: number; signal: AbortSignal },
  ) => Promise<unknown>;
  /** Sets its clock, likewise. */
  readonly setClock: (vm: string, options: CallOptions) => Promise<unknown>;
  /** Tells it who it is, likewise. */
  readonly nameGuest: (
    clone: { vm: string; uuid: string },
    options: { timeoutMs: number; signal: AbortSignal },
  ) => Promise<unknown>;
}

export interface CloneRequest {
  readonly manifest: Manifest;
  readonly names: readonly string[];
}

const AT_ONCE = 4;
/** An agent that has not answered by then is not waited for. */
const ANSWER_TIMEOUT_MS = 5_000;
const SCRIPT_TIMEOUT_MS = 20_000;
/** Codes of a guest whose agent says nothing. */
const MUTE: readonly string[] = ['GUEST_UNREACHABLE', 'GUEST_UNRESPONSIVE', 'TIMEOUT'];
const PLUG_TIMEOUT_MS = 60_000;

/** @throws FairleadError UNSUPPORTED for a snapshot that others cannot be made from, and what a start throws. */
export async function cloneSnapshot(
  tools: CloneTools,
  { manifest, names }: CloneRequest,
  options: CallOptions,
): Promise<Result<'vm.clone'>> {
  requireClonable(manifest);
  const why = whyCopied(manifest, tools);
  const untold: Untold = { randomSeeds: {}, clocks: {}, hostNames: {} };
  using deadline = new Deadline(`cloning snapshot ${manifest.name}`, options);
  const made: string[] = [];
  const log = await CloneLog.begin(tools.catalogue.directoryOf(manifest.name), names);
  await failpoint('clone.begun');
  try {
    await eachOf(names, AT_ONCE, async (name) => {
      deadline.signal.throwIfAborted();
      const { uuid } = await tools.vms.create(atFirst(manifest.spec, name), { signal: deadline.signal });
      made.push(name);
      await failpoint('clone.created');
      await log.made(name, uuid);
      await runClone(tools, manifest, { name, sharesRam: why === undefined, deadline });
      await failpoint('clone.running');
      await introduce(tools, manifest, { vm: name, uuid, signal: deadline.signal }, untold);
    });
    const memory = why === undefined ? 'shared' : 'copied';
    const answer = { memory, ...(why === undefined ? {} : { why }), ...untold } as const;
    await log.finished(answer);
    await failpoint('clone.finished');
    return { vms: names.map((name): VmInfo => tools.vms.get(name)), ...answer };
  } catch (error) {
    const deleted = await Promise.allSettled(made.map((name) => tools.vms.delete(name, { force: true })));
    // What is still there is for the next agent to delete.
    if (deleted.every(({ status }) => status === 'fulfilled')) await log.drop();
    throw error;
  }
}

/** The names of clones that were not given any: the first that are free. */
export function cloneNames(vm: string, count: number, isTaken: (name: string) => boolean): string[] {
  const names: string[] = [];
  for (let number = 1; names.length < count; number++) {
    const suffix = `-${number}`;
    const name = `${vm.slice(0, 63 - suffix.length).replace(/-+$/, '')}${suffix}`;
    if (!isTaken(name)) names.push(name);
  }
  return names;
}

/** Why clones cannot share the RAM of the snapshot; undefined where they can. */
export function whyCopied({ mode, spec, unplugged }: Manifest, { vsockKind }: Pick<CloneTools, 'vsockKind'>): string | undefined {
  if (mode === 'stream') return 'a stream snapshot keeps no RAM file to share';
  if (spec.devices.balloon) return 'its balloon gives memory back, which would punch holes into the shared file';
  if (spec.memory.maxBytes !== undefined)
    return 'its memory device gives memory back, which would punch holes into the shared file';
  const needsShared = unplugged.vsock !== undefined && vsockKind !== 'vhost-vsock';
  return needsShared ? 'the vsock transport of this host works on memory that others see' : undefined;
}

function requireClonable({ name, vm, spec, unplugged, clonable }: Manifest): void {
  const refuse = (why: string): never => {
    throw new FairleadError('UNSUPPORTED', `snapshot ${name} cannot be cloned: ${why}`, { details: { snapshot: name } });
  };
  const hasIdentity = spec.networks.length > 0 || spec.vsock !== undefined;
  if (!clonable && hasIdentity) refuse(`the networks or the vsock of VM ${vm} are saved in it; make one with clonable`);
  for (const network of unplugged.networks) {
    if (network.type === 'tap') refuse(`its network ${network.id} is on tap ${network.tap}, which one VM alone can have`);
    if (network.type === 'user' && network.forwards.length > 0) {
      refuse(`its network ${network.id} has ports of the host, which one VM alone can have`);
    }
  }
}

async function runClone(
  tools: CloneTools,
  manifest: Manifest,
  { name, sharesRam, deadline }: { readonly name: string; readonly sharesRam: boolean; readonly deadline: Deadline },
): Promise<void> {
  const { vms, catalogue, owner, checkPolicy } = tools;
  const directory = catalogue.directoryOf(manifest.name);
  const request = { manifest, directory, name, after: 'run', sharesRam, owner } as const;
  const { signal, remainingMs } = deadline;
  await vms.restore(name, (paths) => restorationOf(request, paths), { signal, timeoutMs: remainingMs });
  await plugInto(tools, name, ownIdentity(manifest.unplugged), { signal, checkPolicy });
}

/** What a guest had let go of to be saved, in turn with the other commands of the VM. */
export async function plugInto(
  { vms }: Pick<SnapshotTools, 'vms'>,
  name: string,
  unplugged: Unplugged,
  { signal, checkPolicy }: { readonly signal: AbortSignal; readonly checkPolicy: SnapshotTools['checkPolicy'] },
): Promise<void> {
  if (unplugged.networks.length === 0 && unplugged.vsock === undefined) return;
  const operation = { doing: 'plugging devices into', inTurn: true };
  await vms.operate(name, operation, { signal, timeoutMs: PLUG_TIMEOUT_MS }, (vm, inTurn) =>
    plugBack(vm, unplugged, { deadline: inTurn, checkPolicy }),
  );
}

/** Without a MAC address of its own a NIC has that of its VM's name. */
function ownIdentity({ networks, vsock }: Unplugged): Unplugged {
  const anew = networks.map(({ mac: _mac, ...network }): Network => network);
  return { networks: anew, ...(vsock === undefined ? {} : { vsock }) };
}

/** Until its disks are made it has none. */
function atFirst(spec: VmSpec, name: string): VmSpec {
  return withoutLostAgent({ ...spec, name, disks: [] });
}

/** What could not be set in a guest, and why, by the name of its clone. */
type Untold = Pick<Required<Result<'vm.clone'>>, 'randomSeeds' | 'clocks' | 'hostNames'>;

/** Whatever of it comes to nothing, the clone runs all the same. */
async function introduce(
  { seedGuest, setClock, nameGuest }: CloneTools,
  { spec }: Manifest,
  { vm, uuid, signal }: { readonly vm: string; readonly uuid: string; readonly signal: AbortSignal },
  untold: Untold,
): Promise<void> {
  if (spec.guestAgent === undefined) return;
  const script = { timeoutMs: SCRIPT_TIMEOUT_MS, signal };
  // Random numbers first: until then each that is drawn may be another's, too.
  const steps = {
    randomSeeds: () => seedGuest(vm, { ...script, answerTimeoutMs: ANSWER_TIMEOUT_MS }),
    clocks: () => setClock(vm, { timeoutMs: ANSWER_TIMEOUT_MS, signal }),
    hostNames: () => nameGuest({ vm, uuid }, script),
  } as const;
  // One that has not answered is not waited for a second time.
  let mute: FairleadError | undefined;
  for (const what of ['randomSeeds', 'clocks', 'hostNames'] as const) {
    const problem = mute ?? (await steps[what]().then(() => undefined, toFairleadError));
    signal.throwIfAborted();
    if (problem === undefined) continue;
    untold[what][vm] = problem.message;
    if (MUTE.includes(problem.code)) mute = problem;
  }
}

/** The first failure is thrown when those that had begun have ended. */
async function eachOf<T>(items: readonly T[], atOnce: number, run: (item: T) => Promise<void>): Promise<void> {
  const left = [...items];
  let failed: { readonly error: unknown } | undefined;
  const work = async (): Promise<void> => {
    for (let item = left.shift(); item !== undefined && failed === undefined; item = left.shift()) {
      try {
        await run(item);
      } catch (error) {
        failed ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  if (failed !== undefined) throw failed.error;
}
