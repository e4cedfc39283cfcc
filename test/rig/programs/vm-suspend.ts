/**
 * Suspends under KVM, with the vsock of the kernel: the device is part of what is saved, and stays. Run inside a VM that has KVM and
 * /dev/vhost-vsock.
 */
import assert from 'node:assert/strict';
import { chooseTransport } from '../../../agent/streams/choose.ts';
import { artefacts } from '../../../cli/image/cache.ts';
import type { VmEvent } from '../../../shared/protocol/vm-events.ts';
import { silent, spec, testHost } from '../../support/vm.ts';
import { runCases } from '../../support/vm-cases.ts';

const RUN_PORT = 1024;
const READY_PORT = 1023;
const ECHO_PORT = 7;
const CYCLES = 3;

const { vmlinux, initrd } = artefacts();
const vsock = await chooseTransport({ want: 'vhost-vsock', path: '', logger: silent });
await using host = await testHost({ vsock });
const { manager } = host;
const told: VmEvent[] = [];
manager.events.listen((event) => void told.push(event));

async function inGuest(command: string): Promise<string> {
  const { stream } = await manager.openStream({ vm: 'web', port: RUN_PORT, connectTimeoutMs: 60_000 });
  stream.end(`${command}\n`);
  let text = '';
  for await (const chunk of stream) text += String(chunk);
  return text.trim();
}

await runCases({
  'a guest under KVM says that it is ready': async () => {
    const ready = Promise.withResolvers<void>();
    using _ = manager.events.listen(({ type }) => type === 'vm.ready' && ready.resolve());
    const boot = { kernel: vmlinux, initrd, args: 'console=ttyS0 reboot=t panic=-1 quiet' };
    const memory = { bytes: '192MiB', backing: 'file' } as const;
    await manager.run(spec({ name: 'web', accelerator: 'kvm', memory, boot, vsock: { readyPort: READY_PORT } }));
    await ready.promise;
    await inGuest('echo kept >/tmp/kept');
  },

  'it goes on with its vsock, by another CID each time': async () => {
    let { cid } = manager.get('web').vsock ?? { cid: 0 };
    const notes: string[] = [];
    for (let cycle = 0; cycle < CYCLES; cycle++) {
      const { stream } = await manager.openStream({ vm: 'web', port: ECHO_PORT, connectTimeoutMs: 30_000 });
      const failed = new Promise<Error>((resolve) => stream.once('error', resolve));
      const startedAt = performance.now();
      await manager.suspend('web', { durability: 'process' });
      const asleepAt = performance.now();
      assert.equal(Reflect.get(Reflect.get(await failed, 'details'), 'reset'), 'SUSPENDED');
      const info = await manager.resume('web');
      const awakeAt = performance.now();
      assert.equal(await inGuest('cat /tmp/kept'), 'kept');
      notes.push(
        `${Math.round(asleepAt - startedAt)}, ${Math.round(awakeAt - asleepAt)}, ${Math.round(performance.now() - awakeAt)}`,
      );
      assert.notEqual(info.vsock?.cid, cid);
      cid = info.vsock?.cid ?? 0;
    }
    assert.deepEqual(
      told.filter(({ type }) => type === 'vm.device-removed'),
      [],
    );
    return `ms to suspend, to resume, to the first answer: ${notes.join('; ')}`;
  },

  'whoever connects to it wakes it': async () => {
    await manager.suspend('web', { durability: 'process' });
    assert.equal(await inGuest('cat /tmp/kept'), 'kept');
    assert.equal(manager.get('web').state, 'running');
  },

  'it sleeps on over a restart of the agent': async () => {
    await manager.suspend('web', { durability: 'process' });
    const next = await host.restart();
    assert.equal(next.get('web').state, 'suspended');
    assert.equal((await next.resume('web')).state, 'running');
    const { stream } = await next.openStream({ vm: 'web', port: RUN_PORT, connectTimeoutMs: 60_000 });
    stream.end('cat /tmp/kept\n');
    let text = '';
    for await (const chunk of stream) text += String(chunk);
    assert.equal(text, 'kept\n');
  },
});
