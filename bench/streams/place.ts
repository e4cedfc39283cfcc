/**
 * Where a line runs. `unlimited` is the machine's loopback. `modelled` puts the agent behind a wire of 100 Mbit/s each way: two network
 * namespaces joined by a veth pair, each end with a token bucket, a queue of 64 KiB, and 64 KiB of socket buffer at most.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { endProcess } from '../programs.ts';

export interface Place {
  /** Where the hub listens. */
  readonly address: string;
  /** What the programs of the hub's side, and of the agent's, are started through. */
  readonly hubSide: readonly string[];
  readonly agentSide: readonly string[];
  /** The port that the agent dials for the one that the hub listens on. */
  portTo(hubPort: number): number;
}

export const UNLIMITED: Place = { address: '127.0.0.1', hubSide: [], agentSide: [], portTo: (hubPort) => hubPort };

const BUFFER_BYTES = 64 * 1024;
const HUB_ADDRESS = '10.111.0.1';
const AGENT_ADDRESS = '10.111.0.2';
/** A burst of two packets; segments are not joined into larger ones, which would pass the bucket as one. */
const shape = (mbit: number): string => `rate ${mbit}mbit burst 3200 limit ${BUFFER_BYTES}`;

export interface Wire {
  /** Of 10^6 bits a second, each way. */
  readonly mbit: number;
  /** What a socket's receiver takes at most. */
  readonly receiveBytes: number;
}

/** Namespaces end with the scope. @throws Error when this machine has no user namespaces, veth or tbf */
export async function modelledLine(
  scope: AsyncDisposableStack,
  wire: Wire = { mbit: 100, receiveBytes: BUFFER_BYTES },
): Promise<Place> {
  const hub = await namespace(scope, ['unshare', '--user', '--map-root-user', '--net']);
  const hubSide = through(hub);
  const agent = await namespace(scope, [...hubSide, 'unshare', '--net']);
  const agentSide = through(agent);
  await run([...hubSide, 'ip', ...words(`link add wire type veth peer name wire netns ${agent}`)]);
  await configure(hubSide, HUB_ADDRESS, wire);
  await configure(agentSide, AGENT_ADDRESS, wire);
  return { ...UNLIMITED, address: HUB_ADDRESS, hubSide, agentSide };
}

async function configure(side: readonly string[], address: string, { mbit, receiveBytes }: Wire): Promise<void> {
  await run([...side, 'ip', ...words(`addr add ${address}/30 dev wire`)]);
  await run([...side, 'ip', ...words('link set lo up')]);
  await run([...side, 'ip', ...words('link set wire up gso_max_segs 1')]);
  await run([...side, 'tc', ...words(`qdisc add dev wire root tbf ${shape(mbit)}`)]);
  const sizes = (mostBytes: number): string => `4096 ${Math.min(16_384, mostBytes)} ${mostBytes}`;
  await run([...side, 'sysctl', '-qw', `net.ipv4.tcp_wmem=${sizes(BUFFER_BYTES)}`, `net.ipv4.tcp_rmem=${sizes(receiveBytes)}`]);
}

/** A process that does nothing in a namespace of its own, and ends with the benchmark; its pid. */
async function namespace(scope: AsyncDisposableStack, [command = '', ...args]: readonly string[]): Promise<number> {
  const child = spawn(command, [...args, 'sh', '-c', 'echo up; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  });
  scope.defer(() => endProcess(child));
  const up = await Promise.race([
    once(child.stdout, 'data'),
    once(child, 'exit').then(([code]) => `it ended with code ${String(code)}`),
  ]);
  if (typeof up === 'string') throw new Error(`${command} could not make a network namespace: ${up}`);
  // SAFETY: a child that has said something was spawned.
  return child.pid as number;
}

function through(pid: number): string[] {
  return ['nsenter', '--target', String(pid), '--user', '--net', '--preserve-credentials'];
}

async function run([command = '', ...args]: readonly string[]): Promise<void> {
  await promisify(execFile)(command, args);
}

function words(text: string): string[] {
  return text.split(' ');
}
