/** A VM is sent to a second real QEMU, and what becomes of it here when that goes well, badly, or not at all. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { reconcilerOf } from '../../agent/rpc/reconcile.ts';
import { MIGRATION_RECONCILERS } from '../../agent/rpc/reconcile-migration.ts';
import { vhostUserTransport } from '../../agent/streams/vhost-user.ts';
import { Migrator } from '../../agent/vm/migration/migrator.ts';
import { artefacts } from '../../cli/image/cache.ts';
import type { Operation } from '../../shared/protocol/methods-operation.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { startTarget } from '../support/migration-target.ts';
import { nextEvent, silent, spec, type TestHost, testHost, typesOf, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);
const { vhostDeviceVsock } = artefacts();
if (vhostDeviceVsock === undefined) console.warn('skipped: the VM with a vsock device needs vhost-device-vsock');

/** So little that it does not end while a test looks at it. */
const CRAWL = 1_000;
/** No other command was under way when the agent died. */
const ALONE = { isAlone: true };

describe.skipIf(missing !== undefined)('a VM that is migrated', () => {
  let host: TestHost;
  let migrator: Migrator;
  beforeEach(async () => {
    host = await testHost();
    migrator = new Migrator(host.manager);
    await host.manager.run(spec({ name: 'web' }));
  });
  afterEach(() => host[Symbol.asyncDispose]());

  const migrate = (uri: string, more: { maxBandwidthBytes?: number; stallTimeoutMs?: number; wait?: boolean } = {}) =>
    migrator.migrate(parseParams('vm.migrate', { vm: 'web', uri, ...more }), {});
  const stateOf = () => host.manager.get('web').state;

  /** As the journal of an agent that died has it. */
  function operationOf({ manager }: TestHost): Operation {
    const { uuid, generation, state } = manager.get('web');
    return {
      id: 'one',
      method: 'vm.migrate',
      vm: 'web',
      state: 'running',
      host: 'edge-1',
      acceptedAt: new Date().toISOString(),
      paramsDigest: '0'.repeat(64),
      before: { uuid, generation, state },
      attempts: 1,
    };
  }

  /** Begun, and on its way. */
  async function crawlTo(uri: string): Promise<{ outcome: Promise<unknown> }> {
    const active = Promise.withResolvers<void>();
    const params = parseParams('vm.migrate', { vm: 'web', uri, maxBandwidthBytes: CRAWL });
    const onProgress = ({ status }: { status: string }) => status === 'active' && active.resolve();
    const outcome = migrator.migrate(params, { onProgress }).catch((error: unknown) => error);
    await Promise.race([active.promise, outcome]);
    return { outcome };
  }

  test('runs at its target and is paused here; it is not sent a second time unless it has run here again', async () => {
    await using target = await startTarget(host.manager, 'web');
    const paused = nextEvent(host.manager, 'vm.paused');
    expect(await migrate(target.uri)).toMatchObject({
      status: 'completed',
      transferredBytes: expect.any(Number),
      totalMs: expect.any(Number),
      downtimeMs: expect.any(Number),
      blockedBy: [],
    });
    expect(await target.reached('running')).toBe('running');
    await paused;
    expect(stateOf()).toBe('paused');
    expect(typesOf(host.manager)).toContain('vm.migration-changed');
    expect(await migrator.read('web', {})).toMatchObject({ status: 'completed' });

    await using second = await startTarget(host.manager, 'web');
    await expect(migrate(second.uri)).rejects.toMatchObject({
      code: 'WRONG_STATE',
      message: expect.stringContaining('was migrated away'),
      details: { runState: 'postmigrate' },
    });
    expect(await host.manager.resume('web')).toMatchObject({ state: 'running' });
    expect(await migrate(second.uri)).toMatchObject({ status: 'completed' });
  });

  test('that was paused is paused at its target', async () => {
    await host.manager.pause('web');
    await using target = await startTarget(host.manager, 'web');
    await migrate(target.uri);
    expect(await target.reached('paused', 'running')).toBe('paused');
    expect(stateOf()).toBe('paused');
  });

  test('goes on here when it is cancelled, and can be sent again', async () => {
    await using target = await startTarget(host.manager, 'web');
    const { outcome } = await crawlTo(target.uri);
    expect(await migrator.read('web', {})).toMatchObject({ status: 'active', remainingBytes: expect.any(Number) });
    expect(await migrator.cancel('web', {})).toMatchObject({ status: 'cancelled' });
    expect(await outcome).toMatchObject({ code: 'CANCELLED', message: expect.stringContaining('is here as it was') });
    expect(stateOf()).toBe('running');
    expect(await migrator.cancel('web', {}), 'again is nothing').toMatchObject({ status: 'cancelled' });

    await using second = await startTarget(host.manager, 'web');
    expect(await migrate(second.uri)).toMatchObject({ status: 'completed' });
  });

  test('is not sent any further when its caller is gone', async () => {
    await using target = await startTarget(host.manager, 'web');
    const caller = new AbortController();
    const params = parseParams('vm.migrate', { vm: 'web', uri: target.uri, maxBandwidthBytes: CRAWL });
    const onProgress = ({ status }: { status: string }) => status === 'active' && caller.abort();
    await expect(migrator.migrate(params, { signal: caller.signal, onProgress })).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(await migrator.read('web', {})).toMatchObject({ status: 'cancelled' });
    expect(stateOf()).toBe('running');
  });

  test('goes on here when its target dies', async () => {
    const target = await startTarget(host.manager, 'web');
    const { outcome } = await crawlTo(target.uri);
    target.signal('SIGKILL');
    expect(await outcome).toMatchObject({ code: 'QMP_FAILED', message: expect.stringContaining('is here as it was') });
    await target[Symbol.asyncDispose]();
    expect(stateOf()).toBe('running');
    await using second = await startTarget(host.manager, 'web');
    expect(await migrate(second.uri)).toMatchObject({ status: 'completed' });
  });

  test('is given up when its target takes nothing any more', async () => {
    await using target = await startTarget(host.manager, 'web');
    target.signal('SIGSTOP');
    await expect(migrate(target.uri, { stallTimeoutMs: 1_000 })).rejects.toMatchObject({
      code: 'TIMEOUT',
      message: expect.stringContaining('took nothing any more'),
    });
    target.signal('SIGCONT');
    expect(stateOf()).toBe('running');
  });

  test('stays where nobody waits for it', async () => {
    await expect(migrate('unix:/no/such/socket')).rejects.toMatchObject({ code: 'QMP_FAILED' });
    await expect(migrate('tcp:127.0.0.1:1')).rejects.toMatchObject({ code: 'QMP_FAILED' });
    expect(stateOf()).toBe('running');
  });

  test('holds up none of its other commands, and no second migration gets between', async () => {
    await using target = await startTarget(host.manager, 'web');
    const { outcome } = await crawlTo(target.uri);
    await expect(migrate(target.uri)).rejects.toMatchObject({ code: 'CONFLICT' });
    const seen: string[] = [];
    const caller = new AbortController();
    const waiting = migrator.wait('web', { signal: caller.signal, onProgress: ({ status }) => seen.push(status) });
    expect(await host.manager.pause('web')).toMatchObject({ state: 'paused' });
    expect(await host.manager.resume('web')).toMatchObject({ state: 'running' });
    await migrator.cancel('web', {});
    expect(await waiting).toMatchObject({ status: 'cancelled' });
    expect(seen.at(-1)).toBe('cancelled');
    await outcome;
  });

  test('can be waited for later', async () => {
    await using target = await startTarget(host.manager, 'web');
    expect((await migrate(target.uri, { wait: false })).status).not.toBe('none');
    expect(await migrator.wait('web', {})).toMatchObject({ status: 'completed' });
    expect(await target.reached('running')).toBe('running');
  });

  test('goes on with it while no agent is there, and the next one knows what became of it', async () => {
    const operation = operationOf(host);
    await using target = await startTarget(host.manager, 'web');
    await migrate(target.uri, { wait: false, maxBandwidthBytes: CRAWL });
    const manager = await host.restart();
    migrator = new Migrator(manager);
    const outcome = async () => (await reconcilerOf(manager, MIGRATION_RECONCILERS)(operation, ALONE)).outcome;
    await expect.poll(async () => (await migrator.read('web', {})).status).toBe('active');
    expect(await outcome()).toBe('unknown');
    await migrator.cancel('web', {});
    expect(await outcome()).toBe('not-done');

    await using second = await startTarget(manager, 'web');
    await migrate(second.uri);
    expect(await outcome()).toBe('done');
    await manager.resume('web');
    expect(await outcome()).toBe('unknown');
  });

  test('takes the migration with it when its own QEMU dies', async () => {
    await using target = await startTarget(host.manager, 'web');
    const { outcome } = await crawlTo(target.uri);
    const crashed = nextEvent(host.manager, 'vm.crashed');
    process.kill(host.manager.get('web').pid ?? 0, 'SIGKILL');
    expect(await outcome).toBeInstanceOf(Error);
    await crashed;
    await expect(migrate(target.uri)).rejects.toMatchObject({ code: 'WRONG_STATE' });
  });
});

test.skipIf(missing !== undefined || vhostDeviceVsock === undefined)(
  'a VM with a device that cannot be migrated says which, and nothing is begun',
  async () => {
    const transport = vhostUserTransport({ binary: vhostDeviceVsock ?? '', logger: silent });
    await using host = await testHost({ vsock: { available: true, transport } });
    await host.manager.run(spec({ name: 'web', vsock: {} }));
    const migrator = new Migrator(host.manager);
    const params = parseParams('vm.migrate', { vm: 'web', uri: 'unix:/no/such/socket' });
    await expect(migrator.migrate(params, {})).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('vhost-user-vsock'),
    });
    expect(await migrator.read('web', {})).toMatchObject({
      status: 'none',
      blockedBy: expect.arrayContaining([expect.stringContaining('vhost-user-vsock')]),
    });
    expect(host.manager.get('web').state).toBe('running');
  },
);
