/**
 * An agent is killed from outside at every step of a command that changes the disk or QEMU, and begun anew on what is left. Then the VM,
 * its process, its files and the command's record have to agree, and a repeat of the command has to be answered truthfully.
 */
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FAILPOINTS, type Failpoint } from '../../agent/failpoint.ts';
import { artefacts } from '../../cli/image/cache.ts';
import { toFairleadError } from '../../shared/errors.ts';
import type { AgentMethodName, ParamsInput } from '../../shared/protocol/methods.ts';
import type { VmState } from '../../shared/protocol/vm.ts';
import { type AgentProcess, type CrashingHost, crashingHost } from '../support/agent-process.ts';
import { linuxSpec, whyNoLinux } from '../support/linux-vm.ts';
import { readSources } from '../support/sources.ts';
import { whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
for (const reason of [missing, whyNoLinux()]) if (reason !== undefined) console.warn(`skipped: ${reason}`);

/** The firmware finds nothing to boot: a guest that costs nothing, and hears no button. */
const SPEC = { name: 'web', accelerator: 'tcg', memory: { bytes: '64MiB' } } as const;
const IN_FILE = { ...SPEC, memory: { ...SPEC.memory, backing: 'file' } } as const;
const LINUX_MEMORY = { bytes: '256MiB', backing: 'file' } as const;
const ID = 'the-command';
const DISK = 'data.raw';
const STATE_OF = { done: 'done', 'not-done': 'failed', unknown: 'unknown' } as const;

/** `lets go`: with a disk, and a guest that lets go of it when it is asked. `in file`: with RAM that can be left; so has `suspended`. `saved`: stopped, with a snapshot; `restored` from it, running or at rest; `left`: deleted, and its snapshot is there, `with a disk` too. */
type Prepared = 'nothing' | 'created' | 'running' | 'lets go' | 'in file' | 'suspended' | FromSnapshot;
type FromSnapshot = 'saved' | 'restored' | 'restored, at rest' | 'left' | 'left, with a disk';

interface Command<M extends AgentMethodName = AgentMethodName> {
  readonly method: M;
  readonly params: ParamsInput<M>;
}

interface Crash extends Command {
  readonly at: Failpoint;
  readonly on: Prepared;
  /** What may be told of the command; undefined where its end was in the journal. */
  readonly outcome: readonly ('done' | 'not-done' | 'unknown' | undefined)[];
  /** How the VM is then; undefined: it is not there. */
  readonly leaves: VmState | undefined;
  /** How the repeat ends, and how the VM is after it. */
  readonly repeat: 'answers' | 'OUTCOME_UNKNOWN';
  readonly ends: VmState | undefined;
}

const create = { method: 'vm.create', params: { spec: SPEC } } as const;
const run = { method: 'vm.run', params: { spec: SPEC } } as const;
const start = { method: 'vm.start', params: { vm: 'web' } } as const;
const stop = { method: 'vm.stop', params: { vm: 'web', graceMs: 0 } } as const;
const pause = { method: 'vm.pause', params: { vm: 'web' } } as const;
const reset = { method: 'vm.reset', params: { vm: 'web' } } as const;
const remove = { method: 'vm.delete', params: { vm: 'web', force: true } } as const;
const suspend = { method: 'vm.suspend', params: { vm: 'web' } } as const;
const resume = { method: 'vm.resume', params: { vm: 'web' } } as const;
const discard = { method: 'vm.stop', params: { vm: 'web', graceMs: 0 } } as const;
const attach = { method: 'disk.attach', params: { vm: 'web', id: 'data', disk: { path: DISK, format: 'raw' } } } as const;
const detach = { method: 'disk.detach', params: { vm: 'web', id: 'data' } } as const;

const save = { method: 'snapshot.create', params: { vm: 'web', name: 'one' } } as const;
const saveInstant = { method: 'snapshot.create', params: { vm: 'web', name: 'one', mode: 'instant' } } as const;
const restore = { method: 'vm.restore', params: { snapshot: 'one' } } as const;

const clone = { method: 'vm.clone', params: { snapshot: 'one', names: ['web'] } } as const;
const flatten = { method: 'disk.flatten', params: { vm: 'web', id: 'data' } } as const;

const ANSWERED = { repeat: 'answers' } as const;
const notDone = (command: Command, on: Prepared, leaves: VmState | undefined, ends: VmState | undefined) =>
  ({ ...command, ...ANSWERED, on, outcome: ['not-done'], leaves, ends }) as const;
const isDone = (command: Command, on: Prepared, leaves: VmState | undefined) =>
  ({ ...command, ...ANSWERED, on, outcome: ['done'], leaves, ends: leaves }) as const;

const CRASHES: readonly Crash[] = [
  { at: 'create.directory-made', ...notDone(create, 'nothing', undefined, 'created') },
  { at: 'create.recorded', ...isDone(create, 'nothing', 'created') },
  // What `run` has made and not started is removed again.
  { at: 'create.recorded', ...notDone(run, 'nothing', undefined, 'running') },
  { at: 'start.spawned', ...notDone(run, 'nothing', undefined, 'running') },

  { at: 'start.begun', ...notDone(start, 'created', 'created', 'running') },
  { at: 'start.recorded', ...notDone(start, 'created', 'stopped', 'running') },
  { at: 'start.spawned', ...notDone(start, 'created', 'stopped', 'running') },
  { at: 'start.process-recorded', ...notDone(start, 'created', 'stopped', 'running') },
  { at: 'start.resumed', ...isDone(start, 'created', 'running') },

  { at: 'stop.begun', ...notDone(stop, 'running', 'running', 'stopped') },
  { at: 'stop.recorded', ...isDone(stop, 'running', 'stopped') },
  { at: 'stop.process-ended', ...isDone(stop, 'running', 'stopped') },
  { at: 'stop.end-recorded', ...isDone(stop, 'running', 'stopped') },
  { at: 'stop.cleaned', ...isDone(stop, 'running', 'stopped') },

  { at: 'delete.begun', ...notDone(remove, 'running', 'running', undefined) },
  { at: 'delete.process-ended', ...notDone(remove, 'running', 'stopped', undefined) },
  { at: 'delete.record-removed', ...isDone(remove, 'running', undefined) },
  { at: 'delete.files-removed', ...isDone(remove, 'running', undefined) },

  { at: 'attach.begun', ...notDone(attach, 'running', 'running', 'running') },
  { at: 'attach.recorded', ...notDone(attach, 'running', 'running', 'running') },
  { at: 'attach.backend-added', ...notDone(attach, 'running', 'running', 'running') },
  { at: 'attach.device-added', ...isDone(attach, 'running', 'running') },

  { at: 'detach.begun', ...notDone(detach, 'lets go', 'running', 'running') },
  // The guest has been asked, and lets go of it now or a moment later.
  { at: 'detach.asked', ...isDone(detach, 'lets go', 'running'), outcome: ['done', 'not-done'] },
  { at: 'detach.device-gone', ...isDone(detach, 'lets go', 'running') },
  { at: 'detach.backend-removed', ...isDone(detach, 'lets go', 'running') },
  { at: 'detach.recorded', ...isDone(detach, 'lets go', 'running') },

  { at: 'suspend.begun', ...notDone(suspend, 'in file', 'running', 'suspended') },
  { at: 'suspend.recorded', ...notDone(suspend, 'in file', 'running', 'suspended') },
  { at: 'suspend.vsock-unplugged', ...notDone(suspend, 'lets go', 'running', 'suspended') },
  { at: 'suspend.paused', ...notDone(suspend, 'in file', 'running', 'suspended') },
  { at: 'suspend.saved', ...notDone(suspend, 'lets go', 'running', 'suspended') },
  { at: 'suspend.committed', ...isDone(suspend, 'in file', 'suspended') },
  { at: 'suspend.process-ended', ...isDone(suspend, 'lets go', 'suspended') },

  { at: 'resume.begun', ...notDone(resume, 'suspended', 'suspended', 'running') },
  { at: 'resume.spawned', ...notDone(resume, 'suspended', 'suspended', 'running') },
  { at: 'resume.loaded', ...notDone(resume, 'suspended', 'suspended', 'running') },
  // What was saved is used up, so the guest goes on by itself.
  { at: 'resume.committed', ...isDone(resume, 'suspended', 'running') },
  { at: 'resume.running', ...isDone(resume, 'suspended', 'running') },
  { at: 'discard.recorded', ...isDone(discard, 'suspended', 'stopped') },

  { at: 'snapshot.intended', ...notDone(save, 'in file', 'running', 'running') },
  { at: 'snapshot.unplugged', ...notDone(save, 'lets go', 'running', 'running') },
  { at: 'snapshot.stopped', ...notDone(save, 'lets go', 'running', 'running') },
  { at: 'snapshot.state-saved', ...notDone(saveInstant, 'in file', 'running', 'running') },
  { at: 'snapshot.copied', ...notDone(saveInstant, 'in file', 'running', 'running') },
  { at: 'snapshot.resumed', ...notDone(save, 'lets go', 'running', 'running') },
  { at: 'snapshot.sealed', ...notDone(saveInstant, 'in file', 'running', 'running') },
  { at: 'snapshot.kept', ...isDone(saveInstant, 'in file', 'running') },

  { at: 'restore.loaded', ...notDone(restore, 'saved', 'stopped', 'running') },
  { at: 'restore.spec-recorded', ...notDone(restore, 'saved', 'stopped', 'running') },
  // What was made for it is removed.
  { at: 'restore.loaded', ...notDone(restore, 'left, with a disk', undefined, 'running') },
  { at: 'restore.spec-recorded', ...notDone(restore, 'left, with a disk', undefined, 'running') },

  { at: 'clone.begun', ...notDone(clone, 'left', undefined, 'running') },
  { at: 'clone.created', ...notDone(clone, 'left', undefined, 'running') },
  { at: 'clone.running', ...notDone(clone, 'left', undefined, 'running') },
  { at: 'clone.finished', ...isDone(clone, 'left', 'running') },

  // QEMU goes on by itself, and has soon done it.
  { at: 'disk.copying', ...isDone(flatten, 'restored', 'running') },
  { at: 'disk.copying', ...notDone(flatten, 'restored, at rest', 'stopped', 'stopped') },
  { at: 'disk.based', ...isDone(flatten, 'restored', 'running') },
  { at: 'disk.based', ...isDone(flatten, 'restored, at rest', 'stopped') },

  { at: 'journal.accepted', ...notDone(start, 'created', 'created', 'running') },
  {
    at: 'journal.accepted',
    ...reset,
    on: 'running',
    outcome: ['unknown'],
    leaves: 'running',
    repeat: 'OUTCOME_UNKNOWN',
    ends: 'running',
  },
  { at: 'journal.done', ...isDone(pause, 'running', 'paused') },
  { at: 'journal.finished', ...stop, ...ANSWERED, on: 'running', outcome: [undefined], leaves: 'stopped', ends: 'stopped' },
];

describe.skipIf(missing !== undefined)('an agent that is killed', () => {
  const possible = CRASHES.filter(({ on }) => on !== 'lets go' || whyNoLinux() === undefined);

  // Side by side: each is on a host of its own, and mostly waits.
  test.concurrent.each(possible)(
    'at $at of $method leaves the VM $leaves, tells $outcome, and answers the repeat',
    async (crash) => {
      await using host = await crashingHost(artefacts().vhostDeviceVsock);
      const { method, repeat } = crash;
      const params = onDiskOf(host, crash.params);
      await writeFile(join(host.images, DISK), Buffer.alloc(1024 * 1024));
      await dieAt(host, crash, params);

      const agent = await host.start();
      const record = await agent.call('op.get', { id: ID });
      const outcome = record.reconciled?.outcome;
      expect(crash.outcome).toContain(outcome);
      expect(record.state).toBe(STATE_OF[outcome ?? 'done']);
      if (crash.at !== 'detach.asked') await expectAgreement(host, agent, crash.leaves);
      // Whatever the agent did not live to tell.
      await expectTold(agent, crash.leaves);

      expect(await answerOf(agent.call(method, params, ID))).toBe(repeat);
      const attempts = outcome === 'not-done' ? 2 : 1;
      expect(await agent.call('op.get', { id: ID })).toMatchObject({
        attempts,
        state: repeat === 'answers' ? 'done' : 'unknown',
      });
      await expectAgreement(host, agent, crash.ends);
      // Whatever came of it, what is answered once stays the answer.
      expect(await answerOf(agent.call(method, params, ID))).toBe(repeat);
      await expectAgreement(host, agent, crash.ends);
      if (crash.ends !== undefined) await agent.call('vm.delete', { vm: 'web', force: true });
      await expectAgreement(host, agent, undefined);
    },
  );
});

/** What events tell of the VM's coming and going, in turn, ends with how it is. */
async function expectTold(agent: AgentProcess, leaves: VmState | undefined): Promise<void> {
  const { events } = await agent.call('vm.events', {});
  const ends = events.flatMap(({ type }) => (type === 'vm.created' || type === 'vm.deleted' ? type : []));
  const inTurn = ends.map((_, index) => (index % 2 === 0 ? 'vm.created' : 'vm.deleted'));
  expect(ends).toEqual(inTurn);
  expect(ends.length % 2).toBe(leaves === undefined ? 0 : 1);
}

/** Where it can, the agent that dies makes ready what it dies of. */
async function dieAt(host: CrashingHost, { at, on, method }: Crash, params: Command['params']): Promise<void> {
  const isEveryCommand = at.startsWith('journal.');
  if (isEveryCommand) await prepare(host, await host.start(), on);
  const agent = await host.start(at);
  if (!isEveryCommand) await prepare(host, agent, on);
  await agent.dieDuring(method, params, ID);
}

async function prepare(host: CrashingHost, agent: AgentProcess, on: Prepared): Promise<void> {
  if (on === 'nothing') return;
  const isLinux = on === 'lets go';
  if (isFromSnapshot(on)) return prepareSnapshot(host, agent, on);
  const bare = on === 'in file' || on === 'suspended' ? IN_FILE : SPEC;
  await agent.call('vm.create', { spec: isLinux ? linuxSpec({ name: 'web', memory: LINUX_MEMORY }) : bare });
  if (on !== 'created') await agent.call('vm.start', { vm: 'web' });
  if (on === 'suspended') await agent.call('vm.suspend', { vm: 'web' });
  if (!isLinux) return;
  await agent.ready;
  await agent.call('disk.attach', onDiskOf(host, attach.params));
}

function isFromSnapshot(on: Prepared): on is FromSnapshot {
  return on === 'saved' || on.startsWith('restored') || on.startsWith('left');
}

async function prepareSnapshot(host: CrashingHost, agent: AgentProcess, on: FromSnapshot): Promise<void> {
  const disks = on.startsWith('restored') || on === 'left, with a disk' ? [onDiskOf(host, { id: 'data', path: DISK })] : [];
  await agent.call('vm.run', { spec: { ...IN_FILE, disks } });
  await agent.call('snapshot.create', saveInstant.params);
  await agent.call('vm.stop', stop.params);
  if (on.startsWith('left')) await agent.call('vm.delete', { vm: 'web' });
  if (!on.startsWith('restored')) return;
  await agent.call('vm.restore', restore.params);
  if (on === 'restored, at rest') await agent.call('vm.stop', stop.params);
}

/** Params with the path of the disk on this host in them. */
function onDiskOf<P extends object>(host: CrashingHost, params: P): P {
  return JSON.parse(JSON.stringify(params).replace(DISK, join(host.images, DISK)));
}

/** The VM, its programs, its files and its devices say the same of how it is. */
async function expectAgreement(host: CrashingHost, agent: AgentProcess, state: VmState | undefined): Promise<void> {
  // In turn with what the agent puts right at its start, such as a vsock that the guest is to get back.
  if (state === 'running' || state === 'paused') await agent.call('vm.qmp', { vm: 'web', execute: 'query-status' });
  const { vms } = await agent.call('vm.list', {});
  expect(vms.map((vm) => vm.state)).toEqual(state === undefined ? [] : [state]);
  const isRunning = state === 'running' || state === 'paused';
  const programs = host.programs();
  expect(programs.filter(({ isQemu }) => isQemu).map(({ pid }) => pid)).toEqual(isRunning ? [vms[0]?.pid] : []);
  expect(programs.filter(({ isQemu }) => !isQemu)).toHaveLength(isRunning && vms[0]?.vsock !== undefined ? 1 : 0);
  expect(await readdir(join(host.directory, 'state', 'vms'))).toEqual(state === undefined ? [] : ['web']);
  expect(await readdir(join(host.directory, 'run'))).toEqual(isRunning ? ['web'] : []);
  // RAM in a file is there as long as its guest is.
  const isThere = state === 'suspended' || (isRunning && vms[0]?.spec.memory.backing === 'file');
  expect(await readdir(join(host.directory, 'ram')).catch(() => [])).toEqual(isThere ? ['web.ram'] : []);
  const wantsVsock = isRunning && vms[0]?.spec.vsock !== undefined;
  expect(!wantsVsock || vms[0]?.vsock !== undefined).toBe(true);
  if (!isRunning) return;
  const { return: blocks } = await agent.call('vm.qmp', { vm: 'web', execute: 'query-block' });
  // SAFETY: the answer of a QEMU that works.
  const attached = (blocks as { qdev?: string; inserted?: object }[]).filter(({ inserted }) => inserted !== undefined);
  expect(attached.map(({ qdev }) => qdev?.match(/data/)?.[0])).toEqual(vms[0]?.spec.disks.map(({ id }) => id));
}

async function answerOf(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => 'answers',
    (error: unknown) => toFairleadError(error).code,
  );
}

/** Those of an update end launchers and hosts as well, which are not there in this file. */
const WALKED_TOO = 'test/integration/agent-update.test.ts';

test('every failpoint is placed in the agent, and walked here or where an agent is updated', async () => {
  const walked = new Set<Failpoint>(CRASHES.map(({ at }) => at));
  const others = readSources().find(({ path }) => path === WALKED_TOO)?.lines ?? [];
  const isWalked = (name: Failpoint): boolean => walked.has(name) || others.some((line) => line.includes(`'${name}'`));
  expect(FAILPOINTS.filter((name) => !isWalked(name))).toEqual([]);
  const sources = readSources().filter(({ path }) => path.startsWith('agent/') && path !== 'agent/failpoint.ts');
  const isPlaced = (name: Failpoint): boolean =>
    sources.some(({ lines }) => lines.some((line) => line.includes(`failpoint('${name}')`)));
  expect(FAILPOINTS.filter((name) => !isPlaced(name))).toEqual([]);
});
