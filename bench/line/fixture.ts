/** What the rows of the group are made of: a hub in a process of its own, the operator's connection, the agent from `dist/`. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { mkdtemp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connectHub, type HubConnection } from '../../cli/connection.ts';
import { artefacts, PROJECT_ROOT } from '../../cli/image/cache.ts';
import { demoImage } from '../../cli/image/demo-image.ts';
import type { VmSpecInput } from '../../shared/protocol/vm-spec.ts';
import { endProcess, type Program, startProgram } from '../programs.ts';

/** Name of the only host. */
export const HOST = 'bench';
export const AGENT_ENTRY = join(PROJECT_ROOT, 'dist/bin/fairlead.js');

const CALL_TIMEOUT_MS = 60_000;
const LOG_TAIL_BYTES = 2048;

export interface HubProgram {
  readonly program: Program;
  readonly url: string;
  readonly enrolToken: string;
  /** Resolves when the next host connects. */
  connected(): Promise<void>;
  operator(): Promise<HubConnection>;
}

export async function startHub(scope: AsyncDisposableStack, parent: string): Promise<HubProgram> {
  const logFile = join(parent, 'hub.log');
  const program = scope.use(await startProgram('line/programs/hub.ts', { logFile }));
  // SAFETY: what programs/hub.ts says when it is ready.
  const { url, adminToken, enrolToken } = program.ready as { url: string; adminToken: string; enrolToken: string };
  return {
    program,
    url,
    enrolToken,
    connected: async () => void (await program.next()),
    operator: async () => scope.use(await connectHub({ hub: url, token: adminToken }, { timeoutMs: CALL_TIMEOUT_MS })),
  };
}

export interface AgentPlace {
  readonly directory: string;
  readonly logFile: string;
  readonly args: readonly string[];
}

/** A host of its own: directories and arguments of an agent that is not started yet. */
export async function agentPlace(parent: string, hub: HubProgram): Promise<AgentPlace> {
  const directory = await mkdtemp(join(parent, 'a'));
  const { vhostDeviceVsock } = artefacts();
  const flags = {
    hub: hub.url,
    host: HOST,
    token: hub.enrolToken,
    'state-dir': join(directory, 'state'),
    'run-dir': join(directory, 'run'),
    'http-listen': '127.0.0.1:0',
    'image-roots': '/',
    ...(vhostDeviceVsock === undefined ? { vsock: 'off' } : { vsock: 'vhost-user', 'vhost-device-vsock': vhostDeviceVsock }),
  };
  const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
  return { directory, args, logFile: join(directory, 'agent.log') };
}

/** The agent as it is shipped; its log goes to a file. Ends with the scope, and its VMs do not: delete them first. */
export async function spawnAgent({ args, logFile }: AgentPlace): Promise<ChildProcess> {
  return spawnNode([AGENT_ENTRY, 'agent', ...args], logFile);
}

/** Node on its own, out of reach of the terminal's Ctrl-C. */
export async function spawnNode(args: readonly string[], logFile: string): Promise<ChildProcess> {
  const log = openSync(logFile, 'a');
  try {
    const child = spawn(process.execPath, args, { detached: true, stdio: ['ignore', log, log] });
    await once(child, 'spawn');
    return child;
  } finally {
    closeSync(log);
  }
}

/** Hub, agent and operator, with the agent connected. */
export async function startLine(
  scope: AsyncDisposableStack,
  parent: string,
): Promise<{ operator: HubConnection; place: AgentPlace }> {
  const hub = await startHub(scope, parent);
  const place = await agentPlace(parent, hub);
  const agent = await spawnAgent(place);
  scope.defer(() => endProcess(agent));
  await connectedOrEnded(hub.connected(), agent, place.logFile);
  return { operator: await hub.operator(), place };
}

/** @throws Error with the end of the log when the process ends first. */
export async function connectedOrEnded(connected: Promise<unknown>, child: ChildProcess, logFile: string): Promise<void> {
  const given = new AbortController();
  const ended = once(child, 'exit', { signal: given.signal }).then(async () => {
    throw new Error(`the process ended before it was connected:\n${(await readFile(logFile, 'utf8')).slice(-LOG_TAIL_BYTES)}`);
  });
  ended.catch(() => {});
  try {
    await Promise.race([connected, ended]);
  } finally {
    given.abort();
  }
}

/** The guest of the demo with a vsock device. @throws Error when there is none on this machine. */
export function guestSpec(name: string): VmSpecInput {
  const image = demoImage();
  if (image === undefined) throw new Error('there is no guest image: run `npm run setup -- demo`');
  const { kernel, initrd, args } = image;
  return { name, boot: { kernel, initrd, args }, vsock: {} };
}
