/**
 * Taps that the agent makes for networks of type `bridge`: one for each NIC, on the bridge that the spec names, there for as long as the
 * VM's process is.
 *
 * The name of a tap follows from the VM's directory and the NIC's slot, and all that is known of it is in the kernel. So a tap that a dead
 * agent left behind is found and removed without any record of it.
 *
 * The work is done by `ip` (iproute2), which needs CAP_NET_ADMIN.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import * as v from 'valibot';
import { FairleadError } from '../../../shared/errors.ts';
import type { Network } from '../../../shared/protocol/vm-spec-devices.ts';

export type BridgeNetwork = Extract<Network, { type: 'bridge' }>;

export interface TapOwner {
  readonly vm: string;
  /** The VM's own directory, which no other VM of any agent has. */
  readonly dir: string;
}

export interface TapOptions {
  /** The NIC's address in the guest. */
  readonly mac: string;
  /** Who may open the tap; the agent's own user where absent. */
  readonly user: { readonly uid: number } | undefined;
  readonly signal: AbortSignal;
}

const IP_TIMEOUT_MS = 10_000;

/** At most 15 characters: `fl`, ten digits of the VM, and the slot. */
export function tapName({ dir }: Pick<TapOwner, 'dir'>, slot: number): string {
  return `${tapPrefix(dir)}${slot.toString(16).padStart(2, '0')}`;
}

function tapPrefix(dir: string): string {
  return `fl${createHash('sha256').update(dir).digest('hex').slice(0, 10)}-`;
}

/**
 * Makes the tap, in place of one that was left behind, and puts it on its bridge.
 * @throws FairleadError NOT_FOUND for a bridge that is not there, PERMISSION_DENIED without CAP_NET_ADMIN, UNSUPPORTED without `ip`.
 */
export async function makeTap(owner: TapOwner, network: BridgeNetwork, { mac, user, signal }: TapOptions): Promise<string> {
  const { bridge, id } = network;
  const name = tapName(owner, network.slot);
  const what = `network ${id} of VM ${owner.vm}`;
  const { mtu } = await findBridge(bridge, what, signal);
  const may = user === undefined ? [] : ['user', String(user.uid)];
  await removeNamed(owner, [name]);
  await ip(['tuntap', 'add', 'dev', name, 'mode', 'tap', 'vnet_hdr', ...may], what, signal);
  // A bridge takes the lowest address among its ports as its own, so this one is high; and the smallest MTU, so this one is the bridge's.
  const address = ['address', `fe${mac.slice(2)}`, 'mtu', String(mtu)];
  await ip(['link', 'set', 'dev', name, ...address, 'alias', `fairlead: ${what}`], what, signal);
  await ip(['link', 'set', 'dev', name, 'master', bridge, 'up'], what, signal);
  return name;
}

/** QEMU would make a tap that is not there, and one that leads nowhere. @throws FairleadError NOT_FOUND */
export async function requireTap({ vm }: TapOwner, { id, tap }: Extract<Network, { type: 'tap' }>): Promise<void> {
  if ((await interfaceNames()).includes(tap)) return;
  const what = `network ${id} of VM ${vm} wants the tap ${tap}, and this host has none of that name`;
  throw new FairleadError('NOT_FOUND', `${what}: make it, or name a bridge to have one made`, { details: { tap } });
}

/** Removes a tap that is there or not. */
export async function removeTap(owner: TapOwner, slot: number): Promise<void> {
  await removeNamed(owner, [tapName(owner, slot)]);
}

/** Removes every tap of a VM. Costs one small read where there is none. */
export async function removeTaps(owner: TapOwner): Promise<void> {
  const prefix = tapPrefix(owner.dir);
  await removeNamed(
    owner,
    (await interfaceNames()).filter((name) => name.startsWith(prefix)),
  );
}

async function removeNamed({ vm }: TapOwner, names: readonly string[]): Promise<void> {
  const there = await interfaceNames();
  for (const name of names) if (there.includes(name)) await ip(['link', 'delete', 'dev', name], `tap ${name} of VM ${vm}`);
}

/** Of this process's network namespace. */
async function interfaceNames(): Promise<string[]> {
  const lines = (await readFile('/proc/self/net/dev', 'utf8')).split('\n').slice(2);
  return lines.map((line) => line.slice(0, line.indexOf(':')).trim()).filter((name) => name !== '');
}

const Links = v.pipe(
  v.string(),
  v.parseJson(),
  v.array(v.object({ mtu: v.number(), linkinfo: v.optional(v.object({ info_kind: v.optional(v.string()) })) })),
);

async function findBridge(bridge: string, what: string, signal: AbortSignal): Promise<{ mtu: number }> {
  const details = { bridge };
  if (!(await interfaceNames()).includes(bridge)) {
    throw new FairleadError('NOT_FOUND', `${what} wants the bridge ${bridge}, and this host has none of that name`, { details });
  }
  const [link] = v.parse(Links, await ip(['-json', '-details', 'link', 'show', 'dev', bridge], what, signal));
  if (link?.linkinfo?.info_kind === 'bridge') return { mtu: link.mtu };
  throw new FairleadError('UNSUPPORTED', `${what} wants the bridge ${bridge}, which is an interface of another kind`, {
    details,
  });
}

/** Runs `ip` and gives what it prints. */
async function ip(args: readonly string[], what: string, signal?: AbortSignal): Promise<string> {
  try {
    const limits = {
      timeout: IP_TIMEOUT_MS,
      killSignal: 'SIGKILL',
      env: environment(),
      ...(signal === undefined ? {} : { signal }),
    } as const;
    const { stdout } = await promisify(execFile)('ip', args, limits);
    return stdout;
  } catch (error) {
    signal?.throwIfAborted();
    throw ipFailure(error, what);
  }
}

/** The administrator's programs are not on every PATH. */
function environment(): NodeJS.ProcessEnv {
  return { PATH: `${process.env['PATH'] ?? '/usr/bin:/bin'}:/usr/sbin:/sbin`, LC_ALL: 'C' };
}

const Failure = v.object({ code: v.optional(v.union([v.string(), v.number()])), stderr: v.optional(v.string(), '') });

function ipFailure(error: unknown, what: string): FairleadError {
  const parsed = v.safeParse(Failure, error);
  const { code, stderr } = parsed.success ? parsed.output : { code: undefined, stderr: '' };
  if (code === 'ENOENT') {
    return new FairleadError('UNSUPPORTED', `could not make ${what}: there is no \`ip\` on this host: apt install iproute2`);
  }
  if (stderr.startsWith('BusyBox')) {
    const why = "the `ip` of this host is busybox's, which knows too little: apt install iproute2";
    return new FairleadError('UNSUPPORTED', `could not make ${what}: ${why}`);
  }
  const words = stderr.trim().split('\n')[0] || (error instanceof Error ? error.message : String(error));
  if (/not permitted|permission denied/i.test(words)) {
    const cure = 'give the agent CAP_NET_ADMIN, or name an existing tap instead';
    return new FairleadError(
      'PERMISSION_DENIED',
      `could not make ${what}: the agent may not change the host's network (${words}): ${cure}`,
    );
  }
  return new FairleadError('PROCESS_FAILED', `could not make ${what}: ip ended with ${String(code)}: ${words}`, { cause: error });
}
