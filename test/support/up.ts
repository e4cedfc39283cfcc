/** A hub and an agent as a user has them: `fairlead up` in a process of its own, and the command line to drive it. */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { connectHub, type HubConnection } from '../../cli/connection.ts';
import { artefacts } from '../../cli/image/cache.ts';
import { specFromFlags } from '../../cli/vm-spec-flags.ts';
import type { SpecFlags } from '../../cli/vm-spec-options.ts';
import { type RunningUp, startUp } from '../../scripts/demo/up-process.ts';
import type { VmEvent } from '../../shared/protocol/vm-events.ts';
import { testQemu } from './qemu.ts';

const ENTRY = fileURLToPath(new URL('../../bin/fairlead.js', import.meta.url));
const CALL_TIMEOUT_MS = 60_000;

export interface CliResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface TestFleet extends AsyncDisposable {
  readonly up: RunningUp;
  readonly directory: string;
  readonly hub: HubConnection;
  /** Runs `fairlead ARGS` with `input` on its standard input. */
  cli(args: readonly string[], input?: string | Uint8Array): Promise<CliResult>;
  /** Starts a VM of the demo image and waits for the guest's word that it is ready. */
  runReady(name: string, flags?: SpecFlags): Promise<void>;
}

/** Why no real guest can be run on this machine, or undefined. */
export function whyNoGuest(): string | undefined {
  const { missing } = testQemu();
  if (missing !== undefined) return missing;
  const { initrd, vhostDeviceVsock } = artefacts();
  return initrd === undefined || vhostDeviceVsock === undefined
    ? 'the guest image is not built: run `node scripts/setup.mjs test`'
    : undefined;
}

/** Disposing deletes every VM, ends hub and agent and removes their files. */
export async function startFleet(): Promise<TestFleet> {
  const directory = await mkdtemp(join(tmpdir(), 'fairlead-fleet-'));
  // Its agent takes the environment of this process.
  process.env['FAIRLEAD_AGENT_QEMU_BINARY'] = testQemu().binary;
  const up = await startUp(directory);
  const hub = await connectHub(up.context, { timeoutMs: CALL_TIMEOUT_MS });
  return {
    up,
    directory,
    hub,
    cli: (args, input) => runCli(up, args, input),
    runReady: async (name, flags = {}) => {
      const ready = waitForEvent(hub, (event) => event.vm === name && event.type === 'vm.ready');
      await hub.call('vm.run', { spec: await specFromFlags(name, flags) });
      await ready;
    },
    async [Symbol.asyncDispose]() {
      try {
        const { vms } = await hub.call('vm.list', {});
        await Promise.all(vms.map((vm) => hub.call('vm.delete', { vm: vm.name, force: true })));
      } finally {
        await hub[Symbol.asyncDispose]();
        await up.stop();
        await rm(directory, { recursive: true, force: true });
      }
    },
  };
}

/** Resolves with the first event, from the start of the agent on, for which `matches` is true. The test's own time limit bounds it. */
export async function waitForEvent(hub: HubConnection, matches: (event: VmEvent) => boolean): Promise<VmEvent> {
  const stop = new AbortController();
  const found = Promise.withResolvers<VmEvent>();
  const following = hub.follow(
    { follow: true, since: 0 },
    {
      signal: stop.signal,
      onEvent: (event) => {
        if (matches(event)) found.resolve(event);
      },
    },
  );
  following.catch(found.reject);
  try {
    return await found.promise;
  } finally {
    stop.abort();
    await following.catch(() => {});
  }
}

async function runCli(up: RunningUp, args: readonly string[], input: string | Uint8Array = ''): Promise<CliResult> {
  const child = spawn(process.execPath, [ENTRY, ...args], { env: { ...process.env, FAIRLEAD_CONTEXT: up.contextFile } });
  const exited = new Promise<number | null>((resolve) => child.once('close', resolve));
  // A command that ends before it has read all of its input closes the pipe: that is its right.
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { code: await exited, stdout, stderr };
}
