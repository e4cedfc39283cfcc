/**
 * The user as whom QEMU and its helpers run, where the host's owner names one. The processes are started as that user, for QEMU's own way
 * (`-runas`) dies in its sandbox; supplementary groups are dropped by the spawn, so what the user may open, it opens by its own id or its
 * one group. Files of guests are not given to it: they must be readable for it, and that is checked before the spawn, so that the error
 * names file and user instead of what QEMU makes of it.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { FairleadError } from '../../../shared/errors.ts';

const run = promisify(execFile);
const LOOK_UP_TIMEOUT_MS = 5_000;

export interface ProcessUser {
  readonly uid: number;
  readonly gid: number;
  /** For messages. */
  readonly name: string;
}

export interface UserSettings {
  /** A name or a number; undefined runs QEMU as whoever the agent is. */
  readonly user?: string | undefined;
  /** A name or a number; the user's own group by default. */
  readonly group?: string | undefined;
}

/** A file that QEMU is going to open, and what names it: `spec.disks[0].path`. */
export interface NeededFile {
  readonly field: string;
  readonly path: string;
  readonly writable: boolean;
}

/**
 * Undefined where there is nobody to change into.
 * @throws FairleadError NOT_FOUND for a name that the system does not know, UNSUPPORTED where the agent may not become that user.
 */
export async function findUser({ user, group }: UserSettings): Promise<ProcessUser | undefined> {
  if (user === undefined) return undefined;
  const fields = await entryOf('passwd', user);
  const uid = Number(fields?.[2] ?? numeric(user));
  const ownGid = fields?.[3] ?? numeric(user);
  const gid = Number(group === undefined ? ownGid : ((await entryOf('group', group))?.[2] ?? numeric(group)));
  if (!Number.isSafeInteger(uid)) throw unknown('user', user, 'qemuUser');
  if (!Number.isSafeInteger(gid)) throw unknown('group', group ?? user, 'qemuGroup');
  const [ownUid, ownGroup] = [process.geteuid?.(), process.getegid?.()];
  if (uid === ownUid && gid === ownGroup) return undefined;
  if (ownUid !== 0) {
    const message = `QEMU cannot be run as user ${user}: the agent runs with uid ${ownUid}, and only root can become another user`;
    throw new FairleadError('UNSUPPORTED', `${message}; run the agent as ${user}, or take out qemuUser`);
  }
  return { uid, gid, name: fields?.[0] ?? user };
}

/** Asked by a process of that user, so that whatever the kernel holds against it (modes, access lists, directories above) counts. */
export async function checkAccess(vm: string, user: ProcessUser, files: readonly NeededFile[]): Promise<void> {
  if (files.length === 0) return;
  const script =
    'for f do m=${f%%:*} p=${f#*:}; [ -r "$p" ] || printf "r%s\\0" "$p"; [ $m = r ] || [ -w "$p" ] || printf "w%s\\0" "$p"; done';
  const words = files.map(({ path, writable }) => `${writable ? 'w' : 'r'}:${path}`);
  const { stdout } = await run('/bin/sh', ['-c', script, 'sh', ...words], {
    uid: user.uid,
    gid: user.gid,
    cwd: '/',
    env: {},
    timeout: LOOK_UP_TIMEOUT_MS,
  });
  const [first = ''] = stdout.split('\0');
  const bad = files.find(({ path }) => path === first.slice(1));
  if (bad === undefined) return;
  const what = first.startsWith('r') ? 'read' : 'write';
  const message = `${bad.field} of VM ${vm} is ${JSON.stringify(bad.path)}, which user ${user.name} (uid ${user.uid}) cannot ${what}`;
  throw new FairleadError(
    'PERMISSION_DENIED',
    `${message}: let that user into the file and the directories above it, or change qemuUser`,
    { details: { vm, field: bad.field, path: bad.path, user: user.name, setting: 'qemuUser' } },
  );
}

/** The fields of the line in the system's user database; undefined where it has none. */
async function entryOf(database: 'passwd' | 'group', key: string): Promise<string[] | undefined> {
  try {
    const { stdout } = await run('getent', [database, key], { timeout: LOOK_UP_TIMEOUT_MS });
    return stdout.trim().split(':');
  } catch {
    // It ends with 2 for a key that it does not find, and where it is missing a number is all that can be used.
    return undefined;
  }
}

function numeric(text: string): string | undefined {
  return /^\d+$/.test(text) ? text : undefined;
}

function unknown(kind: 'user' | 'group', name: string, setting: string): FairleadError {
  return new FairleadError('NOT_FOUND', `there is no ${kind} ${name} on this host: make one, or change ${setting}`, {
    details: { setting },
  });
}
