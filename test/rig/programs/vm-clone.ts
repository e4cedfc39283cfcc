/**
 * A VM under KVM and three clones of it, each with a vsock of the kernel. No device stands in the way of sharing memory, so the clones do.
 * Run inside a VM that has KVM and /dev/vhost-vsock.
 */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { chooseTransport } from '../../../agent/streams/choose.ts';
import { artefacts } from '../../../cli/image/cache.ts';
import { parseParams } from '../../../shared/protocol/validate.ts';
import { snapshotsOf } from '../../support/snapshots.ts';
import { silent, spec, testHost, typesOf } from '../../support/vm.ts';
import { type Cases, runCases } from '../../support/vm-cases.ts';

const ECHO_PORT = 7;
const RUN_PORT = 1024;
const READY_PORT = 1023;
const CONNECT_MS = 100_000;
const BYTES_A_STREAM = 256 * 1024;
const ALL = ['web', 'web-1', 'web-2', 'web-3'];

const { vmlinux, initrd } = artefacts();
const vsock = await chooseTransport({ want: 'vhost-vsock', path: '', logger: silent });
await using host = await testHost({ vsock });
const { manager } = host;
const snapshots = snapshotsOf(host);

async function inGuest(vm: string, command: string): Promise<string> {
  const what = `${vm}: ${command}`;
  waiting.add(what);
  const { stream } = await manager.openStream({ vm, port: RUN_PORT, connectTimeoutMs: CONNECT_MS });
  stream.end(`${command}\n`);
  let text = '';
  for await (const chunk of stream) text += String(chunk);
  waiting.delete(what);
  return text.trim();
}

function inAll(command: string): Promise<string[]> {
  return Promise.all(ALL.map((vm) => inGuest(vm, command)));
}

function requireDifferent(values: readonly unknown[]): void {
  assert.equal(new Set(values).size, ALL.length, values.join(', '));
}

const waiting = new Set<string>();

const cases: Cases = {
  'a guest under KVM is saved for clones, and goes on with its vsock': async () => {
    const ready = Promise.withResolvers<void>();
    using _ = manager.events.listen(({ type }) => type === 'vm.ready' && ready.resolve());
    const boot = { kernel: vmlinux, initrd, args: 'console=ttyS0 reboot=t panic=-1 quiet' };
    await manager.run(
      spec({
        name: 'web',
        accelerator: 'kvm',
        memory: { bytes: '192MiB', backing: 'file' },
        devices: { balloon: false },
        networks: [{ type: 'user' }],
        boot,
        vsock: { readyPort: READY_PORT },
      }),
    );
    await ready.promise;
    await inGuest('web', 'echo same >/tmp/mark');
    await snapshots.create(parseParams('snapshot.create', { vm: 'web', name: 'gold', mode: 'instant', clonable: true }), {});
    assert.equal(await inGuest('web', 'cat /tmp/mark'), 'same');
  },

  'three clones share its memory, with a CID, a MAC address and a uuid each': async () => {
    const startedAt = performance.now();
    const { vms, memory } = await snapshots.clone(parseParams('vm.clone', { snapshot: 'gold', count: 3 }), {});
    assert.equal(memory, 'shared');
    assert.deepEqual(
      vms.map(({ name, state }) => `${name} ${state}`),
      ['web-1 running', 'web-2 running', 'web-3 running'],
    );
    requireDifferent(ALL.map((vm) => manager.get(vm).vsock?.cid));
    requireDifferent(ALL.map((vm) => manager.get(vm).uuid));
    assert.deepEqual(await inAll('cat /tmp/mark'), ['same', 'same', 'same', 'same']);
    requireDifferent(await inAll('cat /sys/class/net/eth*/address'));
    return `ms to clone 3 and to have an answer of each: ${Math.round(performance.now() - startedAt)}`;
  },

  'streams go into all four at once, and each into its own': async () => {
    await Promise.all(ALL.map((vm) => inGuest(vm, `echo ${vm} >/tmp/name`)));
    const echoed = ALL.map(async (vm) => {
      const bytes = randomBytes(BYTES_A_STREAM);
      const { stream } = await manager.openStream({ vm, port: ECHO_PORT, connectTimeoutMs: CONNECT_MS });
      stream.end(bytes);
      const hash = createHash('sha256');
      for await (const chunk of stream) hash.update(chunk);
      assert.equal(hash.digest('hex'), createHash('sha256').update(bytes).digest('hex'), vm);
    });
    const [names] = await Promise.all([inAll('cat /tmp/name /tmp/mark'), ...echoed]);
    assert.deepEqual(
      names,
      ALL.map((vm) => `${vm}\nsame`),
    );
  },

  'what each has written is in no other, nor in the snapshot': async () => {
    // No random bytes: a clone's kernel goes on with the generator of the one it is of, and may give the same.
    const written = await inAll('head -c 4194304 /dev/zero | tr "\\0" "$(tail -c 2 /tmp/name)" >/tmp/own; wc -c </tmp/own');
    for (const [index, text] of written.entries()) assert.match(text, /^4194304$/m, `${ALL[index]}: ${text}`);
    requireDifferent(await inAll('sha256sum </tmp/own'));
    const verified = await snapshots.verify({ snapshot: 'gold' }, {});
    assert.deepEqual(verified.problems, []);
  },
};

const describe = (): string => {
  const vms = manager.list().map(({ name, state }) => `${name} ${state} (${typesOf(manager, name).join(' ')})`);
  return [`in guests: ${[...waiting].join('; ')}`, ...vms].join('\n');
};
await runCases(cases, { describe });
