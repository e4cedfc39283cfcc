/**
 * VMs from one saved guest, each with an identity of its own:
 *
 *     name, uuid, vmgenid    of its own, as at any start
 *     disks                  an overlay of its own on the frozen one
 *     RAM                    the snapshot's, copy on write; or a copy, where a device needs memory that others see, or gives memory back
 *     networks, vsock        not in the saved guest; plugged when it runs, with MAC addresses and a CID of their own
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
  /** Sets the clock of a guest by its agent. @throws FairleadError where it does not answer. */
  readonly setClock: (vm: string, options: CallOptions) => Promise<unknown>;
  /** Tells a guest who it is, likewise. */
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
const CLOCK_TIMEOUT_MS = 5_000;
const NAME_TIMEOUT_MS = 20_000;
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
  const clocks: Record<string, string> = {};
  const hostNames: Record<string, string> = {};
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
      const { clock, hostName } = await introduce(tools, manifest, { vm: name, uuid, signal: deadline.signal });
      if (clock !== undefined) clocks[name] = clock;
      if (hostName !== undefined) hostNames[name] = hostName;
    });
    const memory = why === undefined ? 'shared' : 'copied';
    const answer = { memory, ...(why === undefined ? {} : { why }), clocks, hostNames } as const;
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

/** What could not be set, and why: the clone runs all the same. */
async function introduce(
  { setClock, nameGuest }: CloneTools,
  { spec }: Manifest,
  { signal, ...clone }: { readonly vm: string; readonly uuid: string; readonly signal: AbortSignal },
): Promise<{ readonly clock?: string; readonly hostName?: string }> {
  if (spec.guestAgent === undefined) return {};
  const problem = (call: Promise<unknown>): Promise<FairleadError | undefined> => call.then(() => undefined, toFairleadError);
  const clock = await problem(setClock(clone.vm, { timeoutMs: CLOCK_TIMEOUT_MS, signal }));
  // One that has not answered is not waited for a second time.
  const isMute = clock !== undefined && MUTE.includes(clock.code);
  const hostName = isMute ? clock : await problem(nameGuest(clone, { timeoutMs: NAME_TIMEOUT_MS, signal }));
  signal.throwIfAborted();
  return {
    ...(clock === undefined ? {} : { clock: clock.message }),
    ...(hostName === undefined ? {} : { hostName: hostName.message }),
  };
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
