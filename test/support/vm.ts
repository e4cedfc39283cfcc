/** A VM manager on directories of its own, for tests with a real QEMU; gone without a trace at the end of its scope. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as v from 'valibot';
import type { HostVsock, Logger } from '../../agent/vm/api.ts';
import { VmManager, type VmManagerOptions } from '../../agent/vm/manager.ts';
import type { LadderTimes } from '../../agent/vm/stop-ladder.ts';
import type { VmEvent, VmEventType } from '../../shared/protocol/vm-events.ts';
import { VmSpec, type VmSpecInput } from '../../shared/protocol/vm-spec.ts';
import { testQemu } from './qemu.ts';

export const silent: Logger = { debug() {}, info() {}, warn() {}, error() {} };
export const NO_VSOCK: HostVsock = { available: false, reason: 'this test has none' };

/** Short enough for a test that goes down the whole ladder, long enough for a busy machine. */
export const SHORT_LADDER: LadderTimes = { pressEveryMs: 500, quitMs: 1_500, sigtermMs: 1_500, sigkillMs: 10_000 };

/** Why tests with QEMU cannot run here; undefined when they can. */
export function whyNoQemu(): string | undefined {
  return testQemu().missing;
}

export interface TestHost extends AsyncDisposable {
  readonly manager: VmManager;
  readonly options: VmManagerOptions;
  /** The agent leaves, and another one comes. */
  restart(): Promise<VmManager>;
}

export async function testHost(options: Partial<VmManagerOptions> = {}): Promise<TestHost> {
  await using undo = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), 'fl-'));
  undo.defer(() => rm(directory, { recursive: true, force: true }));
  const complete: VmManagerOptions = {
    stateDir: join(directory, 'state'),
    runDir: join(directory, 'run'),
    vsock: NO_VSOCK,
    logger: silent,
    limits: { maxVms: 16, maxStreamsPerVm: 256 },
    policy: { qmpCommands: ['*'] },
    agentVersion: '0.0.0-test',
    labels: {},
    qemuBinary: testQemu().binary,
    ladderTimes: SHORT_LADDER,
    ...options,
  };
  let manager = await VmManager.open(complete);
  const owned = undo.move();
  return {
    get manager() {
      return manager;
    },
    options: complete,
    async restart() {
      await manager.close();
      manager = await VmManager.open(complete);
      return manager;
    },
    async [Symbol.asyncDispose]() {
      for (const { name } of manager.list()) await manager.delete(name, { force: true });
      await manager.close();
      await owned.disposeAsync();
    },
  };
}

/** A spec with its defaults. Without a kernel the firmware finds nothing to boot and waits: a guest that costs nothing. */
export function spec(input: VmSpecInput): VmSpec {
  return v.parse(VmSpec, { accelerator: 'tcg', memory: { bytes: '64MiB' }, ...input });
}

/** The first event of the type from now on; ask before doing what causes it. Rejects with the events that there were. */
export async function nextEvent(manager: VmManager, type: VmEventType, vm?: string, timeoutMs = 60_000): Promise<VmEvent> {
  const limit = AbortSignal.timeout(timeoutMs);
  for await (const event of manager.events.follow({ vm, signal: limit })) {
    if (event.type === type) return event;
  }
  throw new Error(`no ${type} within ${timeoutMs} ms; there was ${typesOf(manager).join(' ')}`);
}

export function typesOf(manager: VmManager, vm?: string): VmEventType[] {
  return manager.events.query({ vm }).events.map((event) => event.type);
}
