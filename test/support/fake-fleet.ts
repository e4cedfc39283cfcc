/**
 * A real hub and a real agent in this process, and for its VM an echo that can dial its host: what of the line, the relay and the
 * agent's streams needs no QEMU. Between operator and hub is a proxy that cuts.
 */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, connect as dial, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createAgent } from '../../agent/agent.ts';
import { parseAgentConfig } from '../../agent/config.ts';
import type { VsockDevice } from '../../agent/streams/transport.ts';
import { GuestPorts } from '../../agent/vm/guest-ports/guest-ports.ts';
import type { GuestService } from '../../agent/vm/guest-ports/guest-service.ts';
import { StreamRegistry } from '../../agent/vm/stream-registry.ts';
import type { HubConfigInput } from '../../hub/config.ts';
import { FairleadError } from '../../shared/errors.ts';
import { CutProxy } from './cut-proxy.ts';
import { FakeVms } from './fake-vms.ts';
import { startTestHub, type TestHub } from './test-hub.ts';
import { silent } from './vm.ts';

/** A vsock device whose guest is this process: what it listens on is a unix socket. */
class FakeDevice implements VsockDevice {
  readonly cid = 3;
  readonly halfClose = true;
  readonly backend = { kind: 'vhost-user', socketPath: '' } as const;
  readonly vhostFd = undefined;
  readonly state = { kind: 'vhost-user', cid: 3 } as const;
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  spawned(): void {}
  guestChanged(): void {}
  async settle(): Promise<void> {}

  connect(): Promise<never> {
    return Promise.reject(new FairleadError('GUEST_REFUSED', 'a fake guest listens nowhere'));
  }

  async listen(port: number, onConnection: (stream: Socket) => void): Promise<AsyncDisposable> {
    const server: Server = createServer({ allowHalfOpen: true }, onConnection);
    server.listen(this.path(port));
    await once(server, 'listening');
    return { [Symbol.asyncDispose]: async () => void server.close() };
  }

  path(port: number): string {
    return join(this.#directory, String(port));
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

/** One life of the fake VM. */
export interface FakeGuest extends AsyncDisposable {
  readonly streams: StreamRegistry;
  /** Dials CID 2. @throws Error with the code ENOENT where nothing listens */
  dial(port: number): Promise<Socket>;
}

export interface FakeFleet extends AsyncDisposable {
  readonly hub: TestHub;
  readonly vms: FakeVms;
  readonly guestPorts: GuestPorts;
  readonly proxy: CutProxy;
  /** Of the hub, through the proxy. */
  readonly url: string;
  readonly token: string;
  /** A life of the VM `web` begins. */
  startGuest(options?: { generation?: number; readyPort?: number }): Promise<FakeGuest>;
}

export interface FakeFleetOptions {
  readonly hub?: Partial<HubConfigInput>;
  readonly services?: readonly GuestService[];
  readonly acceptTimeoutMs?: number;
  readonly maxStreamsPerVm?: number;
}

export async function startFakeFleet(options: FakeFleetOptions = {}): Promise<FakeFleet> {
  await using scope = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), 'fl-'));
  scope.defer(() => rm(directory, { recursive: true, force: true }));
  const hub = scope.use(await startTestHub(options.hub));
  const proxy = scope.use(await CutProxy.start(() => Number(new URL(hub.url).port)));
  const { services = [], acceptTimeoutMs, maxStreamsPerVm = 256 } = options;
  const guestPorts = new GuestPorts({ services, maxStreamsPerVm, logger: silent, acceptTimeoutMs });
  const vms = new FakeVms(['web'], { guestPorts });
  for (const info of vms.infos) info.spec = { ...info.spec, vsock: { slot: 0, readyPort: 1023 } };
  const config = parseAgentConfig({
    hub: hub.url,
    host: 'edge-1',
    token: await hub.hub.bootstrap.enrolToken(),
    stateDir: join(directory, 'agent'),
    httpListen: 'off',
    vsock: 'off',
    maxBackoff: 50,
    drainTimeout: 0,
  });
  const agent = createAgent({ config, logger: silent, searchPath: '', openVms: async () => vms });
  await agent.start();
  scope.use(agent);
  await hub.logged('host edge-1 connected');
  const all = scope.move();
  return {
    hub,
    vms,
    guestPorts,
    proxy,
    url: `http://127.0.0.1:${proxy.port}`,
    token: hub.adminToken,
    startGuest: async ({ generation = 1, readyPort } = {}) => {
      const device = new FakeDevice(directory);
      const streams = new StreamRegistry();
      const over = new AbortController();
      const guest = { vm: 'web', generation, device, streams, readyPort, signal: over.signal };
      const attached = await guestPorts.attach(guest);
      return {
        streams,
        dial: async (port) => {
          const socket = dial({ path: device.path(port), allowHalfOpen: true });
          await once(socket, 'connect');
          return socket;
        },
        [Symbol.asyncDispose]: async () => {
          over.abort();
          streams.reset(new FairleadError('STREAM_RESET', 'the VM ended'));
          await attached[Symbol.asyncDispose]();
        },
      };
    },
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}
