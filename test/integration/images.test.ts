/**
 * Images from an operator through the hub to a host: a real hub and real agents (their VMs are played), with lines that are cut. What is
 * looked at is files.
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SimScript } from '../../agent/sim/script.ts';
import { SharedDisk } from '../../agent/sim/shared-disk.ts';
import { SimHost } from '../../agent/sim/sim-host.ts';
import { connectHub, type HubConnection } from '../../cli/connection.ts';
import { pushImage, readImage } from '../../cli/image/push-image.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import { CutProxy } from '../support/cut-proxy.ts';
import { startTestHub, type TestHub } from '../support/test-hub.ts';

const TIMEOUT_MS = 60_000;
const MIB = 1024 ** 2;
const { signal } = new AbortController();

let scope: AsyncDisposableStack;
let directory: string;
let hub: TestHub;
let operator: HubConnection;

beforeEach(async () => {
  scope = new AsyncDisposableStack();
  directory = await mkdtemp(join(tmpdir(), 'fairlead-images-'));
  scope.defer(() => rm(directory, { recursive: true, force: true }));
  hub = scope.use(await startTestHub({ dataDir: join(directory, 'hub'), maxImageBytes: 64 * MIB, imageRate: 0 }));
  operator = scope.use(await connectHub({ hub: hub.url, token: hub.adminToken }, { timeoutMs: TIMEOUT_MS }));
});

afterEach(() => scope.disposeAsync());

async function imageFile(name: string, bytes: Buffer): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, bytes);
  return path;
}

async function pushed(bytes: Buffer, tag?: string): Promise<string> {
  const local = await readImage(await imageFile('image', bytes));
  await pushImage(operator, local, { signal });
  if (tag !== undefined) await operator.call('image.tag', { image: local.digest, tag });
  return local.digest;
}

/** A host whose line goes through a proxy, where one is given. */
async function startHost(name: string, through = hub.url, vmsPerHost = 0): Promise<SimHost> {
  const up = Promise.withResolvers<void>();
  const host = new SimHost({
    access: {
      hub: through.replace('http', 'ws'),
      token: await hub.hub.bootstrap.enrolToken(),
      insecure: false,
      maxBackoff: '100ms',
    },
    script: parseWith(SimScript, { vmsPerHost, operation: { min: 0, max: 0 } }, 'script'),
    name,
    index: 0,
    directory: join(directory, 'hosts'),
    disk: scope.use(await SharedDisk.open(join(directory, `${name}.disk`))),
    now: () => 0,
    onOperation: () => {},
    onLink: ({ state }) => {
      if (state === 'up') up.resolve();
    },
  });
  await host.start();
  scope.use(host);
  await up.promise;
  // The hub serves it a moment later.
  await expect.poll(() => operator.call('host.get', { host: name })).toMatchObject({ connected: true });
  return host;
}

const hubFile = (digest: string) => join(directory, 'hub/images/sha256', digest.slice(7));
const hostFile = (digest: string, host = 'h1') => join(directory, 'hosts', host, 'images/sha256', digest.slice(7));

describe('an image on its way to the hub', { timeout: TIMEOUT_MS }, () => {
  it('is kept whole, readable by the hub alone, and listed with its tags', async () => {
    const bytes = randomBytes(300_000);
    const digest = await pushed(bytes, 'debian:12');
    expect(await readFile(hubFile(digest))).toEqual(bytes);
    expect((await stat(hubFile(digest))).mode & 0o777).toBe(0o400);
    const { images } = await operator.call('image.list', {});
    expect(images).toMatchObject([{ digest, bytes: 300_000, tags: ['debian:12'] }]);
  });

  it('is not sent again where it is there', async () => {
    await pushed(randomBytes(1000));
    const local = await readImage(join(directory, 'image'));
    expect(await pushImage(operator, local, { signal })).toEqual({ sentBytes: 0 });
  });

  it('goes on from the bytes that have come when it broke off', async () => {
    const bytes = randomBytes(4 * MIB);
    const local = await readImage(await imageFile('image', bytes));
    // What was given has to have come before the stream is reset, which throws away what waits.
    const hasCome = () => expect.poll(() => stat(partialOf(local.digest)).then(({ size }) => size)).toBe(2 * MIB);
    const breaking = (chunks: AsyncIterable<Uint8Array>) => first(chunks, 2 * MIB, hasCome);
    await expect(pushImage(operator, local, { signal, count: breaking })).rejects.toThrow(/plug/);
    await hasCome();
    expect(await untilFree(() => pushImage(operator, local, { signal }))).toEqual({ sentBytes: 2 * MIB });
    expect(await readFile(hubFile(local.digest))).toEqual(bytes);
  });

  it('is thrown away when it is not what its digest says', async () => {
    const local = await readImage(await imageFile('image', randomBytes(1000)));
    const flipped = async function* (chunks: AsyncIterable<Uint8Array>) {
      for await (const chunk of chunks) yield chunk.map((byte, at) => (at === 500 ? byte ^ 1 : byte));
    };
    await expect(pushImage(operator, local, { signal, count: flipped })).rejects.toThrow(/thrown away/);
    expect(await readdir(join(directory, 'hub/images/sha256'))).toEqual([]);
    expect(await readdir(join(directory, 'hub/images/partial'))).toEqual([]);
  });

  it('is refused when it is longer than the hub takes, or than it says', async () => {
    const digest = `sha256:${'0'.repeat(64)}`;
    await expect(operator.open('image.push', { digest, bytes: 65 * MIB })).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
    const local = await readImage(await imageFile('image', randomBytes(1000)));
    await expect(pushImage(operator, { ...local, bytes: 10 }, { signal })).rejects.toThrow(/more than the 10 bytes/);
  });

  it.each(['sha256:../../../../etc/passwd', `sha256:${'A'.repeat(64)}`, `sha256:${'0'.repeat(63)}/`, '../hub.db'])(
    'has no path for a name: %s',
    async (digest) => {
      await expect(operator.open('image.push', { digest, bytes: 1 })).rejects.toMatchObject({ code: 'INVALID_PARAMS' });
    },
  );

  it.each(['../../x:1', 'a/b:1', 'sha256:12', 'x:../y', 'x', ':1', `${'a'.repeat(100)}:1`])('has no tag %s', async (tag) => {
    const digest = await pushed(randomBytes(10));
    await expect(operator.call('image.tag', { image: digest, tag })).rejects.toMatchObject({ code: 'INVALID_PARAMS' });
  });
});

describe('an image on its way to a host', { timeout: TIMEOUT_MS }, () => {
  it('is fetched before the VM that names it by a tag is made, and its digest is in the path that the VM keeps', async () => {
    const bytes = randomBytes(200_000);
    const digest = await pushed(bytes, 'kernel:6.1');
    await startHost('h1');
    const vm = await operator.call('vm.run', { spec: { name: 'web', boot: { kernel: 'image:kernel:6.1' } } });
    expect(vm.spec.boot.kernel).toBe(hostFile(digest));
    expect(await readFile(hostFile(digest))).toEqual(bytes);
  });

  it('is a disk that the VM writes onto a layer of its own, and reads as it is where it only reads', async () => {
    const digest = await pushed(randomBytes(200_000), 'disk:1');
    await startHost('h1');
    const disks = [{ path: 'image:disk:1' }, { path: 'image:disk:1', readOnly: true }];
    const vm = await operator.call('vm.create', { spec: { name: 'web', disks } });
    const [written, read] = vm.spec.disks;
    expect(read).toMatchObject({ path: hostFile(digest), format: 'raw' });
    expect(written?.format).toBe('qcow2');
    expect((await readFile(written?.path ?? '')).includes(hostFile(digest))).toBe(true);
  });

  it('is named by a document of the fleet, too, by the digest that its tag stood for when it was applied', async () => {
    const digest = await pushed(randomBytes(2000), 'kernel:6.1');
    await startHost('h1');
    const spec = { name: 'web', boot: { kernel: 'image:kernel:6.1' } };
    await operator.call('fleet.apply', { document: { name: 'all', vms: [{ on: {}, spec }] } });
    const kernel = () =>
      operator.call('vm.get', { vm: 'web' }, 'h1').then(
        (vm) => vm.spec.boot.kernel,
        () => undefined,
      );
    await expect.poll(kernel, { timeout: TIMEOUT_MS }).toBe(hostFile(digest));
    // What is wanted of the host names it as well, when its VM is gone.
    await operator.call('vm.delete', { vm: 'web', force: true }, 'h1').catch(() => {});
    expect((await operator.call('blob.collect', {}, 'h1')).digests).toEqual([]);
  });

  it('says what is missing when the hub has no such image', async () => {
    await startHost('h1');
    const spec = { name: 'web', boot: { kernel: 'image:kernel:none' } };
    await expect(operator.call('vm.create', { spec })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const unknown = { name: 'web', boot: { kernel: `image:sha256:${'1'.repeat(64)}` } };
    await expect(operator.call('vm.create', { spec: unknown })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('comes over lines that break, each time from the bytes that are there', async () => {
    const bytes = randomBytes(8 * MIB);
    const digest = await pushed(bytes);
    const proxy = scope.use(await CutProxy.start(() => Number(new URL(hub.url).port)));
    await startHost('h1', `http://127.0.0.1:${proxy.port}`);
    const cut = proxy.cutAfter(3 * MIB);
    // Its caller's line to the host breaks, too; the next call goes on with what has come.
    const pulled = operator.call('blob.pull', { digest }, 'h1').catch(() => {});
    await cut;
    await pulled;
    const { size } = await stat(join(directory, 'hosts/h1/images/partial', digest.slice(7)));
    expect(size).toBeGreaterThan(0);
    const before = proxy.cuts;
    const again = proxy.cutAfter(9 * MIB - size);
    await untilFree(() => operator.call('blob.pull', { digest }, 'h1'));
    expect(await readFile(hostFile(digest))).toEqual(bytes);
    // The rest alone came after the cut: all of it anew would have been cut once more.
    expect(proxy.cuts).toBe(before);
    void again;
  });

  it('is one transfer for two that want it, and goes on for one when the other gives up', async () => {
    const bytes = randomBytes(6 * MIB);
    const digest = await pushed(bytes);
    const proxy = scope.use(await CutProxy.start(() => Number(new URL(hub.url).port)));
    await startHost('h1', `http://127.0.0.1:${proxy.port}`);
    const cut = proxy.cutAfter(bytes.length + 2 * MIB);
    const gone = new AbortController();
    const pull = () => operator.call('blob.pull', { digest }, 'h1');
    const leave = { signal: gone.signal, onProgress: () => gone.abort(new Error('no more')) };
    const given = operator.client.call('blob.pull', { digest, host: 'h1' }, leave);
    const [one, two] = await Promise.all([pull(), pull(), given.catch(() => {})]);
    expect(one).toEqual(two);
    expect(await readFile(hostFile(digest))).toEqual(bytes);
    // Twice as much would have been cut.
    expect(proxy.cuts).toBe(0);
    void cut;
  });

  it('comes no faster than the hub is told to send it, and a stream to the host is carried meanwhile', async () => {
    hub = scope.use(await startTestHub({ dataDir: join(directory, 'slow'), maxImageBytes: 64 * MIB, imageRate: MIB }));
    operator = scope.use(await connectHub({ hub: hub.url, token: hub.adminToken }, { timeoutMs: TIMEOUT_MS }));
    const digest = await pushed(randomBytes(4 * MIB));
    await startHost('h1', hub.url, 1);
    const begun = performance.now();
    const coming = Promise.withResolvers<void>();
    let isPulled = false;
    const pull = operator.client
      .call('blob.pull', { digest, host: 'h1' }, { onProgress: () => coming.resolve() })
      .then(() => (isPulled = true));
    await coming.promise;
    const { stream } = await operator.openStream({ vm: 'vm-1', port: 7 }, { host: 'h1' });
    const echoes = stream.iterator({ destroyOnReturn: false });
    for (let round = 0; round < 20; round++) {
      stream.write(`round ${round}`);
      const { value } = await echoes.next();
      expect(String(value)).toBe(`round ${round}`);
    }
    expect(isPulled).toBe(false);
    stream.destroy();
    await pull;
    // All but what may pass at once.
    expect(performance.now() - begun).toBeGreaterThan(3500);
  });

  it('is fetched anew when what was on disk of it is not what it should be', async () => {
    const bytes = randomBytes(2 * MIB);
    const digest = await pushed(bytes);
    await startHost('h1');
    const partial = join(directory, 'hosts/h1/images/partial');
    await mkdir(partial, { recursive: true });
    await writeFile(join(partial, digest.slice(7)), randomBytes(MIB));
    await operator.call('blob.pull', { digest }, 'h1');
    expect(
      createHash('sha256')
        .update(await readFile(hostFile(digest)))
        .digest('hex'),
    ).toBe(digest.slice(7));
  });
});

describe('images that nothing uses', { timeout: TIMEOUT_MS }, () => {
  const collect = () => operator.call('image.collect', { olderThanMs: 0 });

  it('are none of what a VM was before a rollout, which is taken back with its disk as the guest has left it', async () => {
    const before = await pushed(randomBytes(200_000));
    const after = await pushed(randomBytes(200_001));
    await startHost('h1');
    const made = await operator.call('vm.create', { spec: { name: 'web', disks: [{ path: `image:${before}` }] } });
    const overlay = made.spec.disks[0]?.path ?? '';
    const patch = { disks: [{ path: `image:${after}` }] };
    await operator.call('rollout.start', { rollout: 'r1', spec: { selector: {}, steps: [{ kind: 'vm', patch }] } });
    const status = async () => (await operator.call('rollout.get', { rollout: 'r1' })).status;
    await expect.poll(status, { timeout: TIMEOUT_MS }).toBe('completed');
    expect((await operator.call('vm.get', { vm: 'web' })).spec.disks[0]?.path).not.toBe(overlay);

    expect((await operator.call('blob.collect', {}, 'h1')).digests).toEqual([]);
    expect((await collect()).digests).toEqual([]);
    await expect(operator.call('image.remove', { image: before })).rejects.toMatchObject({ code: 'CONFLICT' });
    expect((await stat(overlay)).size).toBeGreaterThan(0);
    await operator.call('rollout.rollback', { rollout: 'r1' });
    await expect.poll(status, { timeout: TIMEOUT_MS }).toBe('rolled-back');
    expect((await operator.call('vm.get', { vm: 'web' })).spec.disks[0]?.path).toBe(overlay);

    await operator.call('vm.delete', { vm: 'web', force: true });
    expect((await operator.call('blob.collect', {}, 'h1')).digests.toSorted()).toEqual([before, after].toSorted());
    expect((await collect()).digests.toSorted()).toEqual([before, after].toSorted());
  });

  it('are none of what documents, rollouts under way and waiting commands name, though no host has them yet', async () => {
    const host = await startHost('h1');
    await host[Symbol.asyncDispose]();
    await expect.poll(() => operator.call('host.get', { host: 'h1' })).toMatchObject({ connected: false });
    const [documented, rolled, waiting, unused] = [
      await pushed(randomBytes(1001)),
      await pushed(randomBytes(1002)),
      await pushed(randomBytes(1003)),
      await pushed(randomBytes(1004)),
    ];
    const specOf = (digest: string, name = 'web') => ({ name, boot: { kernel: `image:${digest}` } });
    await operator.call('fleet.apply', { document: { name: 'all', vms: [{ on: {}, spec: specOf(documented) }] } });
    const steps = [{ kind: 'vm' as const, patch: { boot: specOf(rolled).boot } }];
    await operator.call('rollout.start', { rollout: 'r1', spec: { selector: {}, steps, approval: 'anyone' } });
    await operator.call('command.submit', { host: 'h1', method: 'vm.create', params: { spec: specOf(waiting, 'later') } });

    for (const [digest, who] of [
      [documented, 'document all'],
      [rolled, 'rollout r1'],
      [waiting, 'command'],
    ] as const) {
      await expect(operator.call('image.remove', { image: digest })).rejects.toThrow(who);
    }
    expect((await collect()).digests).toEqual([unused]);
    await operator.call('fleet.remove', { name: 'all' });
    await operator.call('rollout.abort', { rollout: 'r1' });
    expect((await collect()).digests.toSorted()).toEqual([documented, rolled].toSorted());
  });

  it('are removed from a host, and those of its VMs stay, with the layers that they write', async () => {
    const used = await pushed(randomBytes(1000));
    const below = await pushed(randomBytes(200_000));
    const unused = await pushed(randomBytes(1000));
    await startHost('h1');
    const spec = { name: 'web', boot: { kernel: `image:${used}` }, disks: [{ path: `image:${below}` }] };
    const { spec: placed } = await operator.call('vm.create', { spec });
    await operator.call('blob.pull', { digest: unused }, 'h1');
    expect(await operator.call('blob.collect', { dryRun: true }, 'h1')).toEqual({ digests: [unused], bytes: 1000 });
    expect(await operator.call('blob.collect', {}, 'h1')).toEqual({ digests: [unused], bytes: 1000 });
    const overlay = placed.disks[0]?.path ?? '';
    expect((await stat(overlay)).size).toBeGreaterThan(0);
    await operator.call('vm.delete', { vm: 'web', force: true });
    const gone = await operator.call('blob.collect', {}, 'h1');
    expect(gone.digests.toSorted()).toEqual([used, below].toSorted());
    await expect(stat(overlay)).rejects.toThrow(/ENOENT/);
    await expect(stat(dirname(overlay))).rejects.toThrow(/ENOENT/);
  });

  it('stay on the hub while a tag, a VM of a host, or a host that is away may use them', async () => {
    const tagged = await pushed(randomBytes(1000), 'keep:1');
    const used = await pushed(randomBytes(1001));
    const unused = await pushed(randomBytes(1002));
    const host = await startHost('h1');
    await operator.call('vm.create', { spec: { name: 'web', boot: { kernel: `image:${used}` } } });
    expect((await collect()).digests).toEqual([unused]);
    await expect(operator.call('image.remove', { image: tagged })).rejects.toMatchObject({ code: 'CONFLICT' });
    await expect(operator.call('image.remove', { image: used })).rejects.toMatchObject({ code: 'CONFLICT' });
    await operator.call('vm.delete', { vm: 'web', force: true });
    await host[Symbol.asyncDispose]();
    await expect.poll(() => operator.call('host.get', { host: 'h1' })).toMatchObject({ connected: false });
    expect((await collect()).digests).toEqual([]);
    await operator.call('host.remove', { host: 'h1' });
    expect((await collect()).digests).toEqual([used]);
    expect(await operator.call('image.remove', { image: 'keep:1' })).toEqual({ untagged: ['keep:1'] });
    expect((await collect()).digests).toEqual([tagged]);
    expect(await readdir(join(directory, 'hub/images/sha256'))).toEqual([]);
  });
});

function partialOf(digest: string): string {
  return join(directory, 'hub/images/partial', digest.slice(7));
}

/** Up to so many bytes, and a failure when they have come. */
async function* first(
  chunks: AsyncIterable<Uint8Array>,
  bytes: number,
  hasCome: () => Promise<void>,
): AsyncGenerator<Uint8Array> {
  let left = bytes;
  for await (const chunk of chunks) {
    yield chunk.subarray(0, left);
    left -= chunk.length;
    if (left <= 0) break;
  }
  await hasCome();
  throw new Error('the operator pulled the plug');
}

/** Again for as long as the attempt before has not let go, or the line is not back. */
async function untilFree<T>(attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? String(error.code) : '';
      if (!['CONFLICT', 'INTERRUPTED', 'HOST_UNREACHABLE', 'NOT_FOUND'].includes(code)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
