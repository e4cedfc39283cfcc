/**
 * QEMU dies or stands still, or the disk is full, at each step of a suspend and of the resume after it: what is told is how it is then, and
 * nothing lies between. (An agent that dies there: crash-injection.test.ts.)
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import * as v from 'valibot';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Failpoint } from '../../agent/failpoint.ts';
import type { VmState } from '../../shared/protocol/vm.ts';
import { programsWith } from '../support/agent-process.ts';
import { spec, type TestHost, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const at: { step: (name: Failpoint) => void | Promise<void> } = vi.hoisted(() => ({ step: () => {} }));
vi.mock('../../agent/failpoint.ts', () => ({ failpoint: async (name: Failpoint) => at.step(name) }));
beforeEach(() => {
  at.step = () => {};
});

type Command = 'suspend' | 'resume';
type Step = Extract<Failpoint, `${Command}.${string}`>;
/** How the call ends, and how the VM is then. */
type End = readonly [told: 'done' | 'fails', state: VmState];

const WEB = spec({ name: 'web', memory: { bytes: '64MiB', backing: 'file' } });
/** Given up by its caller, and let go on, so long after QEMU was stopped; nothing hangs on how long that is. */
const GIVEN_UP_MS = 100;
const LET_GO_ON_MS = 200;

/** Does something at one step, once, and tells how the command ended. */
async function commandWith({ manager }: TestHost, step: Step, fault: (caller: AbortController) => void | Promise<void>) {
  const caller = new AbortController();
  let isReached = false;
  at.step = async (name) => {
    if (name !== step || isReached) return;
    isReached = true;
    await fault(caller);
  };
  const isSuspend = step.startsWith('suspend.');
  const { signal } = caller;
  const call = isSuspend ? manager.suspend('web', { durability: 'process', signal }) : manager.resume('web', { signal });
  const told = await call.then(
    () => 'done' as const,
    () => 'fails' as const,
  );
  expect(isReached, `${step} was not reached`).toBe(true);
  return told;
}

/** The VM as the command wants to find it. */
async function prepare({ manager }: TestHost, step: Step): Promise<void> {
  const { state } = manager.get('web');
  if (state === 'crashed') await manager.start('web');
  if (state === 'suspended') await manager.resume('web');
  if (step.startsWith('resume.')) await manager.suspend('web', { durability: 'process' });
}

/** Waits until the VM is so. Whether its guest goes on, which one that sleeps does once it is woken. */
async function goesOn({ manager }: TestHost, state: VmState): Promise<boolean> {
  await expect.poll(() => manager.get('web').state, { timeout: 60_000 }).toBe(state);
  if (state === 'crashed') return false;
  if (state === 'suspended') await manager.resume('web');
  return v.parse(v.object({ running: v.boolean() }), await manager.qmp('web', { execute: 'query-status' })).running;
}

describe.skipIf(missing !== undefined)('where QEMU', () => {
  let host: TestHost;
  beforeAll(async () => {
    host = await testHost();
    await host.manager.run(WEB);
  });
  afterAll(() => host?.[Symbol.asyncDispose]());

  const qemus = (): number[] => programsWith(host.options.runDir).flatMap(({ pid, isQemu }) => (isQemu ? pid : []));
  const signalQemu = (signal: NodeJS.Signals): void => {
    for (const pid of qemus()) process.kill(pid, signal);
  };
  /** Its end has been collected by then, so whoever started it knows. */
  const killQemu = async (): Promise<void> => {
    const pids = qemus();
    signalQemu('SIGKILL');
    while (pids.some((pid) => existsSync(`/proc/${pid}`))) await setImmediate();
  };

  test.each<[Step, ...End]>([
    ['suspend.begun', 'fails', 'crashed'],
    ['suspend.recorded', 'fails', 'crashed'],
    ['suspend.vsock-unplugged', 'fails', 'crashed'],
    ['suspend.paused', 'fails', 'crashed'],
    ['suspend.committed', 'done', 'suspended'],
    ['suspend.process-ended', 'done', 'suspended'],
    ['resume.spawned', 'fails', 'suspended'],
    ['resume.loaded', 'fails', 'suspended'],
    ['resume.committed', 'fails', 'crashed'],
  ])('is killed at %s, the command %s, and the VM is %s', async (step, told, state) => {
    await prepare(host, step);
    expect(await commandWith(host, step, killQemu)).toBe(told);
    expect(await goesOn(host, state)).toBe(state !== 'crashed');
  });

  // What was saved is there, or the guest has run: either way nobody is told anything else than what is.
  test.each<Step>(['suspend.saved', 'resume.running'])('is killed at %s, what is told is how it is', async (step) => {
    await prepare(host, step);
    const told = await commandWith(host, step, killQemu);
    const isKept = step === 'suspend.saved' && told === 'done';
    expect(await goesOn(host, isKept ? 'suspended' : 'crashed')).toBe(isKept);
  });

  test.each<[Step, ...End]>([
    ['suspend.recorded', 'fails', 'running'],
    ['suspend.paused', 'fails', 'running'],
    ['suspend.committed', 'done', 'suspended'],
    ['resume.spawned', 'fails', 'suspended'],
    ['resume.committed', 'done', 'running'],
  ])('stands still at %s until it is given up, the command %s, and the VM is %s', async (step, told, state) => {
    await prepare(host, step);
    const wokenAgain = Promise.withResolvers<void>();
    const stop = (caller: AbortController): void => {
      signalQemu('SIGSTOP');
      setTimeout(() => caller.abort(), GIVEN_UP_MS);
      setTimeout(() => {
        signalQemu('SIGCONT');
        wokenAgain.resolve();
      }, LET_GO_ON_MS);
    };
    expect(await commandWith(host, step, stop)).toBe(told);
    await wokenAgain.promise;
    expect(await goesOn(host, state)).toBe(state !== 'crashed');
  });
});

test.skipIf(missing !== undefined)('where the disk is full at a step, the guest sleeps or runs, as is told', async ({ skip }) => {
  const directory = await mkdtemp(join(tmpdir(), 'fl-full-'));
  await using undo = new AsyncDisposableStack();
  undo.defer(() => rm(directory, { recursive: true }));
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'none', directory]).status !== 0) return skip('needs a mount');
  undo.defer(() => void spawnSync('umount', [directory]));
  const ramDir = await mkdtemp(join(tmpdir(), 'fl-full-ram-'));
  undo.defer(() => rm(ramDir, { recursive: true }));
  const host = undo.use(await testHost({ stateDir: join(directory, 'state'), ramDir }));
  await host.manager.run(WEB);
  const filler = join(directory, 'filler');

  const ends: readonly (readonly [Step, ...End])[] = [
    ['suspend.begun', 'fails', 'running'],
    ['suspend.paused', 'fails', 'running'],
    ['suspend.saved', 'fails', 'running'],
    ['suspend.committed', 'done', 'suspended'],
    ['resume.begun', 'fails', 'suspended'],
    ['resume.loaded', 'done', 'running'],
    ['resume.committed', 'done', 'running'],
  ];
  for (const [step, told, state] of ends) {
    await prepare(host, step);
    expect(await commandWith(host, step, () => fill(filler)), step).toBe(told);
    expect(host.manager.get('web').state, step).toBe(state);
    await rm(filler);
    expect(await goesOn(host, state)).toBe(state !== 'crashed');
  }
});

/** To the last byte. */
async function fill(path: string): Promise<void> {
  await using file = await open(path, 'w');
  for (const bytes of [Buffer.alloc(64 * 1024), Buffer.alloc(1)]) {
    try {
      for (;;) await file.write(bytes);
    } catch {
      // No room for one more of those.
    }
  }
}
