/**
 * `npm run demo`: the main job, once, for real. Starts `fairlead up` (a hub, and an agent that dials out to it and enrols with a one-time
 * token), has the hub start a VM, waits for the guest's word that it is ready, runs a command in it over a vsock stream, steers the VM,
 * reads health and metrics, and leaves nothing behind. Each step is one line with its duration.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { parseArgs } from 'node:util';
import { connectHub, type HubConnection } from '../cli/connection.ts';
import { describeFailure } from '../cli/failure.ts';
import { specFromFlags } from '../cli/vm-spec-flags.ts';
import { EventWaiter } from './demo/event-waiter.ts';
import { StepReport } from './demo/report.ts';
import { type RunningUp, startUp } from './demo/up-process.ts';

const VM = 'demo';
/** The guest's service that takes one line, answers with that shell command's output and closes by itself. */
const RUN_PORT = 1024;
const GUEST_COMMAND = 'uname -sr; echo "up for $(cut -d" " -f1 /proc/uptime) s"';
const CALL_TIMEOUT_MS = 60_000;
const INTERRUPTED_EXIT_CODE = 130;

const USAGE = 'usage: npm run demo -- [--machine q35|microvm] [--keep] [--json]\n';

interface Flags {
  readonly machine: 'q35' | 'microvm';
  readonly keep: boolean;
  readonly json: boolean;
}

const flags = readFlags();
if (flags === undefined) process.stderr.write(USAGE);
process.exitCode = flags === undefined ? 2 : await demo(flags);

/** Undefined where they make no sense, which is told. */
function readFlags(): Flags | undefined {
  try {
    const { values } = parseArgs({
      options: {
        machine: { type: 'string', default: 'q35' },
        keep: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
      },
    });
    const { machine, keep, json } = values;
    return machine === 'q35' || machine === 'microvm' ? { machine, keep, json } : undefined;
  } catch (error) {
    process.stderr.write(`demo: ${error instanceof Error ? error.message : String(error)}\n`);
    return undefined;
  }
}

async function demo(flags: Flags): Promise<number> {
  const report = new StepReport({ json: flags.json });
  const directory = await mkdtemp(join(tmpdir(), 'fairlead-demo-'));
  const interrupted = interruption();
  let up: RunningUp | undefined;
  try {
    up = await report.step('hub up, agent enrolled and connected', () => startUp(directory));
    await runGuest(report, up, flags, interrupted);
    if (!flags.keep) await report.step('clean up', () => cleanUp(up, directory));
    report.finish(flags.keep ? nextCommands(up) : undefined);
    return 0;
  } catch (error) {
    if (interrupted.aborted) report.fail('interrupted', undefined);
    else report.fail(describeFailure(error), await up?.logTail());
    await cleanUp(up, directory);
    return interrupted.aborted ? INTERRUPTED_EXIT_CODE : 1;
  }
}

/** By the user, or because nobody reads what the demo says (`| head -1`): either way it must still take down what it started. */
function interruption(): AbortSignal {
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => interrupted.abort());
  return interrupted.signal;
}

async function runGuest(report: StepReport, up: RunningUp, { machine, keep }: Flags, signal: AbortSignal): Promise<void> {
  await using hub = await connectHub(up.context, { timeoutMs: CALL_TIMEOUT_MS, signal });
  await using events = new EventWaiter(hub, signal);
  const spec = await specFromFlags(VM, { machine, memory: '256MiB' });

  const started = await report.step(`VM started (${machine})`, () => hub.call('vm.run', { spec }));
  report.note(`accelerator ${started.accelerator}, QEMU ${started.qemuVersion}, vsock by ${started.vsock?.transport}`);
  await report.step('guest said that it is ready', () => events.next('vm.ready'));
  const output = await report.step('command run in the guest over vsock', () => runInGuest(hub, GUEST_COMMAND));
  report.guestOutput(output);
  await report.step('paused', () => hub.call('vm.pause', { vm: VM }));
  await report.step('resumed', () => hub.call('vm.resume', { vm: VM }));
  await report.step('reset', () => hub.call('vm.reset', { vm: VM }));
  await report.step('guest is ready again', () => events.next('vm.ready'));
  await report.step('/readyz of hub and agent', () => readReadiness(up));
  await report.step('/metrics of hub and agent', () => readMetrics(up));
  if (keep) return;
  const { endedBy } = await report.step('VM stopped', () => hub.call('vm.stop', { vm: VM }));
  report.note(`ended by ${endedBy}`);
  await report.step('VM deleted', () => hub.call('vm.delete', { vm: VM }));
}

async function runInGuest(hub: HubConnection, command: string): Promise<string> {
  const { stream } = await hub.openStream({ vm: VM, port: RUN_PORT });
  stream.write(`${command}\n`);
  const output = await text(stream);
  stream.destroy();
  return output;
}

async function readReadiness(up: RunningUp): Promise<void> {
  for (const base of [up.hubUrl, up.agentUrl]) await fetchText(`${base}/readyz?verbose`);
}

async function readMetrics(up: RunningUp): Promise<void> {
  for (const [base, metric] of [
    [up.hubUrl, 'fairlead_hub_hosts_connected'],
    [up.agentUrl, 'fairlead_vms'],
  ] as const) {
    const metrics = await fetchText(`${base}/metrics`);
    if (!metrics.includes(metric)) throw new Error(`${base}/metrics does not tell ${metric}`);
  }
}

async function fetchText(url: string): Promise<string> {
  const response = await fetch(url, { signal: AbortSignal.timeout(CALL_TIMEOUT_MS) });
  const body = await response.text();
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${body}`);
  return body;
}

/** Safe to call at any point, also when the VM was never made. */
async function cleanUp(up: RunningUp | undefined, directory: string): Promise<void> {
  if (up !== undefined) {
    try {
      await using hub = await connectHub(up.context, { timeoutMs: CALL_TIMEOUT_MS });
      const { vms } = await hub.call('vm.list', {});
      for (const vm of vms) await hub.call('vm.delete', { vm: vm.name, force: true });
    } finally {
      await up.stop();
    }
  }
  await rm(directory, { recursive: true, force: true });
}

function nextCommands(up: RunningUp): string[] {
  const directory = dirname(up.contextFile);
  return [
    'All of it is still running. Try, in this folder:',
    `  export FAIRLEAD_CONTEXT=${up.contextFile}`,
    `  npx fairlead vm get ${VM}`,
    `  echo 'cat /proc/cpuinfo' | npx fairlead connect ${VM} ${RUN_PORT}`,
    `  npx fairlead vm events ${VM}`,
    `Metrics: ${up.hubUrl}/metrics, ${up.agentUrl}/metrics`,
    'To end it:',
    `  npx fairlead vm delete ${VM} --force && npx fairlead down --data-dir ${directory} && rm -r ${directory}`,
  ];
}
