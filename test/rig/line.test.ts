/**
 * The topology of real life: the agent on a host of its own, behind a NAT, dials out over TLS to a hub that cannot dial in; KVM and
 * vhost-vsock run the guest. The host is a VM (test/support/rig); hub and operator are here, outside.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectHub, type HubConnection } from '../../cli/connection.ts';
import type { HubContext } from '../../cli/context.ts';
import type { DemoImage } from '../../cli/image/demo-image.ts';
import { parseHubConfig } from '../../hub/config.ts';
import { createHub, type Hub } from '../../hub/hub.ts';
import type { HubLogger } from '../../hub/logger.ts';
import { echoThrough } from '../support/echo-storm.ts';
import { type Rig, startRig, whyNoRig } from '../support/rig/rig.ts';
import { makeSelfSigned } from '../support/self-signed.ts';
import { waitForEvent } from '../support/up.ts';

const ENTRY = fileURLToPath(new URL('../../bin/fairlead.js', import.meta.url));
const CALL_TIMEOUT_MS = 120_000;
const ECHO_PORT = 7;
const RUN_PORT = 1024;
const CAT_PORT = 1234;
const NOBODY_PORT = 4321;
const STREAMS = 16;
const BYTES_A_STREAM = 256 * 1024;

const reason = whyNoRig();
if (reason !== undefined) console.log(`skipped: ${reason}`);

describe.skipIf(reason !== undefined)('a host behind a NAT, with KVM and vhost-vsock', () => {
  const scope = new AsyncDisposableStack();
  let rig: Rig;
  let hub: Hub;
  let operator: HubConnection;
  let context: HubContext;
  /** Of the agent that was started last. */
  let connected = Promise.withResolvers<void>();
  /** The hub's log, of which one sentence counts here. */
  const logger: HubLogger = {
    debug() {},
    info: (_fields, message) => void (message === 'host edge connected' && connected.resolve()),
    warn() {},
    error() {},
    child: () => logger,
  };

  beforeAll(async () => {
    const certificate = scope.use(await makeSelfSigned());
    const dataDir = await mkdtemp(join(tmpdir(), 'fairlead-rig-hub-'));
    scope.defer(() => rm(dataDir, { recursive: true, force: true }));
    const config = parseHubConfig({ dataDir, listen: '127.0.0.1:0', tlsCert: certificate.certPath, tlsKey: certificate.keyPath });
    hub = createHub(config, { logger });
    await hub.start();
    scope.defer(() => hub.stop());

    const files = { 'hub.pem': certificate.cert, 'enrol.token': await hub.bootstrap.enrolToken({ labels: { site: 'rig' } }) };
    rig = scope.use(await startRig({ files }));
    context = { hub: hub.address.url, token: await hub.bootstrap.adminToken('rig test'), ca: certificate.certPath };
    operator = scope.use(await connectHub(context, { timeoutMs: CALL_TIMEOUT_MS }));
    await startAgent();
  });
  afterAll(() => scope.disposeAsync());

  /** In the background inside; resolves when the hub takes the host for connected. */
  async function startAgent(): Promise<void> {
    const agent = `node bin/fairlead.js agent --hub wss://10.0.2.2:${hub.address.port} --ca-file /fairlead/hub.pem --token-file /fairlead/enrol.token`;
    const places = '--host edge --state-dir /tmp/state --run-dir /tmp/run --image-roots $FAIRLEAD_CACHE_DIR';
    connected = Promise.withResolvers<void>();
    await rig.run(`(sh -c 'echo $$ >/tmp/agent.pid; exec ${agent} ${places}' >>/tmp/agent.log 2>&1 &)`);
    await connected.promise;
  }

  const demoImage = async (): Promise<DemoImage> => {
    const program =
      "import('/fairlead/cli/image/demo-image.ts').then(({ demoImage }) => console.log(JSON.stringify(demoImage())))";
    // SAFETY: the function's own result, as JSON.
    return JSON.parse((await rig.run(`node -e "${program}"`)).stdout) as DemoImage;
  };

  it('enrols, connects over TLS, and proves that KVM and vhost-vsock work', async () => {
    const info = await operator.call('host.info', {}, 'edge');
    expect(info).toMatchObject({ labels: {}, kvm: { available: true }, vsock: { available: true }, qemu: { available: true } });
    expect(await operator.call('host.get', { host: 'edge' })).toMatchObject({
      connected: true,
      epoch: 1,
      labels: { site: 'rig' },
    });
  });

  it('runs a guest under KVM that says by vsock that it is ready', async () => {
    const { kernel, initrd, args, readyPort } = await demoImage();
    const ready = waitForEvent(operator, (event) => event.type === 'vm.ready');
    const vm = await operator.call(
      'vm.run',
      { spec: { name: 'web', boot: { kernel, initrd, args }, vsock: { readyPort } } },
      'edge',
    );
    expect(vm).toMatchObject({ state: 'running', accelerator: 'kvm', vsock: { transport: 'vhost-vsock', halfClose: true } });
    await ready;
  });

  it('echo hi | fairlead connect web 1234 prints the echo of cat and ends with 0', async () => {
    const child = spawn(process.execPath, [ENTRY, 'connect', 'web', String(CAT_PORT)], {
      env: { ...process.env, FAIRLEAD_HUB: context.hub, FAIRLEAD_TOKEN: context.token, FAIRLEAD_CA: context.ca },
    });
    const exited = new Promise((resolve) => child.once('close', resolve));
    child.stdin.end('hi\n');
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
    expect({ code: await exited, stdout, stderr }).toEqual({ code: 0, stdout: 'hi\n', stderr: '' });
  });

  it('half-closes from the operator into the guest and loses nothing on the way back', async () => {
    const { stream, opened } = await operator.openStream({ vm: 'web', port: CAT_PORT, connectTimeoutMs: 60_000 });
    expect(opened).toMatchObject({ transport: 'vhost-vsock', halfClose: true });
    const big = 'x'.repeat(200_000);
    stream.end(big);
    expect((await text(stream)).length).toBe(big.length);
  });

  it('half-closes from the guest to the operator', async () => {
    const { stream } = await operator.openStream({ vm: 'web', port: RUN_PORT, connectTimeoutMs: 60_000 });
    stream.write('echo from the guest\n');
    expect(await text(stream)).toBe('from the guest\n');
    stream.end();
  });

  it(`carries ${STREAMS} streams at once, ${BYTES_A_STREAM} random bytes each way`, async () => {
    const results = await Promise.all(
      Array.from({ length: STREAMS }, async () => {
        const { stream } = await operator.openStream({ vm: 'web', port: ECHO_PORT, connectTimeoutMs: 60_000 });
        return echoThrough(stream, BYTES_A_STREAM);
      }),
    );
    for (const result of results) expect(result).toMatchObject({ receivedBytes: BYTES_A_STREAM, receivedHash: result.sentHash });
  });

  it('takes the vsock from the running guest, and gives it another with a new CID', async () => {
    const cidOf = async () => (await operator.call('vm.get', { vm: 'web' })).vsock?.cid;
    const { readyPort } = await demoImage();
    const { stream } = await operator.openStream({ vm: 'web', port: ECHO_PORT, connectTimeoutMs: 60_000 });
    const failed = once(stream, 'error');
    const before = await cidOf();
    expect(await operator.call('vsock.detach', { vm: 'web' })).toEqual({ changed: true });
    expect(await failed).toMatchObject([{ code: 'STREAM_RESET' }]);
    expect(await cidOf()).toBeUndefined();
    expect(await operator.call('vsock.attach', { vm: 'web', vsock: { readyPort } })).toEqual({ changed: true });
    expect(await cidOf()).not.toBe(before);
    const again = await operator.openStream({ vm: 'web', port: ECHO_PORT, connectTimeoutMs: 60_000 });
    const result = await echoThrough(again.stream, BYTES_A_STREAM);
    expect(result).toMatchObject({ receivedBytes: BYTES_A_STREAM, receivedHash: result.sentHash });
  });

  it('says GUEST_REFUSED for a port where nobody listens', async () => {
    await expect(operator.openStream({ vm: 'web', port: NOBODY_PORT, connectTimeoutMs: 60_000 })).rejects.toMatchObject({
      code: 'GUEST_REFUSED',
    });
  });

  it('an agent that is killed with -9 and started again finds its VM and reaches the guest', async () => {
    const before = await operator.call('vm.get', { vm: 'web' }, 'edge');
    await rig.run('kill -9 $(cat /tmp/agent.pid)');
    await startAgent();
    const after = await operator.call('vm.get', { vm: 'web' }, 'edge');
    expect(after).toMatchObject({ pid: before.pid, generation: before.generation, state: 'running' });
    const { stream } = await operator.openStream({ vm: 'web', port: RUN_PORT, connectTimeoutMs: 60_000 });
    stream.end('echo still here\n');
    expect(await text(stream)).toBe('still here\n');
  });

  it('stops by the power button and leaves nothing', async () => {
    expect(await operator.call('vm.stop', { vm: 'web' }, 'edge')).toMatchObject({ endedBy: 'guest' });
    await operator.call('vm.delete', { vm: 'web' }, 'edge');
    expect(
      (await rig.run('ls /tmp/run /tmp/state/vms')).stdout.split('\n').filter((line) => line !== '' && !line.endsWith(':')),
    ).toEqual([]);
  });
});
