/** A hub in a process of its own, an agent and an operator here, and between them proxies that cut: for tests of broken lines. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { createAgent } from '../../agent/agent.ts';
import { parseAgentConfig } from '../../agent/config.ts';
import { Link } from '../../agent/link/link.ts';
import { connectHub, type HubConnection } from '../../cli/connection.ts';
import { artefacts } from '../../cli/image/cache.ts';
import { specFromFlags } from '../../cli/vm-spec-flags.ts';
import { FairleadError, isFairleadError } from '../../shared/errors.ts';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { channelDuplex } from '../../shared/node/channel-duplex.ts';
import { CutProxy } from './cut-proxy.ts';
import { echoInSteps, echoThrough } from './echo-storm.ts';
import { HubProcess } from './hub-process.ts';
import { waitForEvent } from './up.ts';
import { silent } from './vm.ts';

const HOST = 'edge-1';
const VM = 'web';
const ECHO_PORT = 7;
const OPENED = { transport: 'vhost-vsock', halfClose: true, generation: 1 };
const TIMEOUT_MS = 60_000;
const RETRY_MS = 20;
const STEP_BYTES = 48 * 1024;

export interface SplitFleet extends AsyncDisposable {
  readonly hub: HubProcess;
  readonly operator: HubConnection;
  /** Between operator and hub. */
  readonly near: CutProxy;
  /** Between agent and hub. */
  readonly far: CutProxy;
  /** Sends so many random bytes to the echo and takes them back. @throws when they differ */
  echo(bytes: number): Promise<void>;
}

export interface SplitFleetOptions {
  /** The operator dials again also while it has no stream. */
  readonly lasting?: boolean;
  readonly guest?: boolean;
}

/** The agent has an echo for a guest, or with `guest` a VM of the demo image with one in it. */
export async function startSplitFleet({ guest = false, lasting = false }: SplitFleetOptions = {}): Promise<SplitFleet> {
  await using scope = new AsyncDisposableStack();
  const hub = scope.use(await HubProcess.start());
  const near = scope.use(await CutProxy.start(() => hub.port));
  const far = scope.use(await CutProxy.start(() => hub.port));
  const directory = await mkdtemp(join(tmpdir(), 'fl-split-'));
  scope.defer(() => rm(directory, { recursive: true, force: true }));
  const address = `ws://127.0.0.1:${far.port}`;
  const token = await hub.enrolToken();
  const up = Promise.withResolvers<void>();
  const onUp = ({ state }: { state: string }): void => {
    if (state === 'up') up.resolve();
  };
  if (guest) await startAgent(scope, { address, token, directory, onUp });
  else startEcho(scope, { address, token, directory, onUp });
  await up.promise;
  const context = { hub: `http://127.0.0.1:${near.port}`, token: await hub.adminToken() };
  const operator = scope.use(await connectHub(context, { timeoutMs: TIMEOUT_MS, lasting }));
  if (guest) await startGuest(scope, operator);
  const all = scope.move();
  return {
    hub,
    operator,
    near,
    far,
    async echo(bytes) {
      const stream = await openEcho(operator);
      const { sentHash, receivedHash, receivedBytes } = guest
        ? await echoInSteps(stream, bytes, STEP_BYTES)
        : await echoThrough(stream, bytes);
      if (receivedBytes !== bytes || receivedHash !== sentHash) {
        throw new Error(`what came back is not what was sent: ${receivedBytes} of ${bytes} bytes`);
      }
    },
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

/**
 * Cuts one leg after the other at random bytes while streams echo, as often as it is asked for. Transfers that end meanwhile are followed
 * by others. Gives how many bytes went each way. @throws when one differs, is doubled or is missing
 */
export async function echoWhileCut(
  fleet: SplitFleet,
  { cuts, streams, bytesBetweenCuts }: { cuts: number; streams: number; bytesBetweenCuts: number },
): Promise<number> {
  let bytes = 0;
  const over = new AbortController();
  const worker = async (): Promise<void> => {
    while (!over.signal.aborted) {
      await fleet.echo(bytesBetweenCuts);
      bytes += bytesBetweenCuts;
    }
  };
  const workers = Promise.all(Array.from({ length: streams }, worker));
  for (let cut = 0; cut < cuts; cut += 1) {
    const proxy = cut % 2 === 0 ? fleet.near : fleet.far;
    await Promise.race([proxy.cutAfter(1 + Math.floor(Math.random() * bytesBetweenCuts)), workers]);
  }
  over.abort();
  await workers;
  return bytes;
}

/** A stream that was about to be opened does not outlive its line: its opener is told, and asks again. */
async function openEcho(operator: HubConnection): Promise<Duplex> {
  for (;;) {
    try {
      const params = { vm: VM, port: ECHO_PORT, connectTimeoutMs: TIMEOUT_MS };
      return (await operator.openStream(params, { host: HOST })).stream;
    } catch (error) {
      if (!isFairleadError(error) || !['INTERRUPTED', 'HOST_UNREACHABLE'].includes(error.code)) throw error;
      await sleep(RETRY_MS);
    }
  }
}

interface AgentParts {
  readonly address: string;
  readonly token: string;
  readonly directory: string;
  readonly onUp: (status: { state: string }) => void;
}

function startEcho(scope: AsyncDisposableStack, { address, token, directory, onUp }: AgentParts): void {
  const link = new Link({
    config: {
      hub: address,
      host: HOST,
      labels: {},
      stateDir: directory,
      token,
      behindProxy: false,
      dialTimeout: 5000,
      maxBackoff: 100,
    },
    service: {
      onRequest: async (method) => {
        if (method === 'vm.list') return { vms: [] };
        throw new FairleadError('METHOD_NOT_FOUND', `no ${method} in this script`);
      },
      onOpen: (stream, meta, session) => {
        const echo = channelDuplex(MuxChannel.accept(session, stream, OPENED, meta));
        void pipeline(echo, echo).catch(() => {});
      },
    },
    logger: silent,
    onState: onUp,
  });
  link.start();
  scope.defer(() => link.stop(0));
}

async function startAgent(scope: AsyncDisposableStack, { address, token, directory, onUp }: AgentParts): Promise<void> {
  const { vhostDeviceVsock } = artefacts();
  const config = parseAgentConfig({
    hub: address,
    host: HOST,
    token,
    stateDir: join(directory, 'agent'),
    runDir: join(directory, 'run'),
    httpListen: 'off',
    imageRoots: ['/'],
    maxBackoff: 100,
    drainTimeout: 0,
    ...(vhostDeviceVsock === undefined ? {} : { vhostDeviceVsock }),
  });
  const agent = createAgent({ config, logger: silent, searchPath: process.env['PATH'] ?? '', onLink: onUp });
  await agent.start();
  scope.use(agent);
}

async function startGuest(scope: AsyncDisposableStack, operator: HubConnection): Promise<void> {
  const ready = waitForEvent(operator, ({ vm, type }) => vm === VM && type === 'vm.ready');
  await operator.call('vm.run', { spec: await specFromFlags(VM, {}) });
  scope.defer(async () => void (await operator.call('vm.delete', { vm: VM, force: true })));
  await ready;
}
