/**
 * What the kernel tells of the threads of vhost-device-vsock 0.3.0, which tells nothing itself. One of them, its worker, moves every byte of
 * the guest; another takes what QEMU says of the rings. A worker that meets a fault ends, and the process lives on without it.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ProcessIdentity } from '../process-identity.ts';

const WORKER = 'vring_worker';
/** What the daemon calls threads that it has from its start, with the CID after it. */
const COMPANION = 'vhu-vsock-cid-';
const CONFIRM_MS = 1_000;
/** A thread that is at work is woken many times in this. */
const REST_MS = 25;
const REST_TIMEOUT_MS = 1_000;
const AWAKE = 'awake';

interface Thread {
  readonly id: string;
  readonly name: string;
}

/** Nothing is carried any more. Never true of a daemon whose threads have other names. */
export async function hasLostWorker(daemon: ProcessIdentity): Promise<boolean> {
  if (!(await isWithoutWorker(daemon))) return false;
  // A thread that has just begun has no name of its own yet.
  await sleep(CONFIRM_MS, undefined, { ref: false });
  return isWithoutWorker(daemon);
}

/** Resolves when the worker has nothing to do, or does not come to rest in time. */
export function workerAtRest(daemon: ProcessIdentity): Promise<void> {
  return atRest(daemon, ({ name }) => name === WORKER);
}

/** The worker is being woken, for whatever connection. */
export async function isWorkerAtWork({ pid }: ProcessIdentity): Promise<boolean> {
  const workers = (await threadsOf(pid)).filter(({ name }) => name === WORKER);
  const look = async (): Promise<string> => (await Promise.all(workers.map(({ id }) => sleepsOf(pid, id)))).join();
  const before = await look();
  await sleep(REST_MS, undefined, { ref: false });
  const now = await look();
  return workers.length > 0 && (now !== before || now.includes(AWAKE));
}

/** Resolves when what QEMU said last has been done, or is not in time. The worker may be at work. */
export function ringsAtRest(daemon: ProcessIdentity): Promise<void> {
  return atRest(daemon, ({ name }) => name !== WORKER);
}

async function isWithoutWorker({ pid }: ProcessIdentity): Promise<boolean> {
  const threads = await threadsOf(pid);
  return threads.some(({ name }) => name.startsWith(COMPANION)) && !threads.some(({ name }) => name === WORKER);
}

/** At rest is who sleeps, and has not been woken for a while. */
async function atRest({ pid }: ProcessIdentity, isMeant: (thread: Thread) => boolean): Promise<void> {
  const threads = (await threadsOf(pid)).filter(isMeant);
  const look = async (): Promise<string> => (await Promise.all(threads.map(({ id }) => sleepsOf(pid, id)))).join();
  const endsAt = performance.now() + REST_TIMEOUT_MS;
  let before = await look();
  while (performance.now() < endsAt) {
    await sleep(REST_MS);
    const now = await look();
    if (now === before && !now.includes(AWAKE)) return;
    before = now;
  }
}

/** How often the thread has gone to sleep (proc(5)), if it sleeps. */
async function sleepsOf(pid: number, id: string): Promise<string> {
  const status = await readFile(`/proc/${pid}/task/${id}/status`, 'utf8').catch(() => '');
  const [, state] = /^State:\s*(\w)/m.exec(status) ?? [];
  const [, times] = /^voluntary_ctxt_switches:\s*(\d+)$/m.exec(status) ?? [];
  return state === undefined || times === undefined ? 'gone' : state === 'S' ? times : AWAKE;
}

async function threadsOf(pid: number): Promise<Thread[]> {
  const directory = `/proc/${pid}/task`;
  const ids = await readdir(directory).catch(() => []);
  const nameOf = (id: string): Promise<string> => readFile(join(directory, id, 'comm'), 'utf8').catch(() => '');
  return Promise.all(ids.map(async (id) => ({ id, name: (await nameOf(id)).trimEnd() })));
}
