/**
 * The AF_VSOCK transport against real guests, run inside a VM that has KVM and /dev/vhost-vsock: two guests at once, so that what each
 * dials in is told apart by its CID alone.
 */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { chooseTransport } from '../../../agent/streams/choose.ts';
import { type Cases, runCases } from '../../support/vm-cases.ts';
import { startVsockGuest } from '../../support/vsock-guest.ts';

const ECHO_PORT = 7;
const RUN_PORT = 1024;
const READY_PORT = 1023;
/** For a guest that answers, on however busy a machine. */
const CONNECT_MS = 60_000;
const logger = { debug() {}, info() {}, warn() {}, error() {} };

await using scope = new AsyncDisposableStack();
const host = await chooseTransport({ want: 'auto', path: '', logger });
if (!host.available) throw new Error(host.reason);
const { transport } = host;

async function start(vm: string) {
  const device = scope.use(await transport.prepare({ vm, runDir: '/tmp' }));
  const announced = Promise.withResolvers<string>();
  await device.listen(READY_PORT, (stream) => void text(stream).then(announced.resolve, announced.reject));
  const guest = scope.use(startVsockGuest(device));
  return { vm, device, guest, announced: announced.promise };
}

const web = await start('web');
const db = await start('db');

const cases: Cases = {
  'is the kernel transport, with half-close': async () => {
    assert.deepEqual([transport.kind, transport.halfClose], ['vhost-vsock', true]);
    assert.equal(db.device.cid, web.device.cid + 1);
    assert.equal(web.device.vhostFd, undefined);
  },

  'is unreachable while its kernel boots': async () => {
    await assert.rejects(web.device.connect({ port: ECHO_PORT, timeoutMs: 200 }), { code: 'GUEST_UNREACHABLE' });
  },

  'hears each guest say that it is ready': async () => {
    for (const { announced } of [web, db]) assert.match(await announced, /"ready":true/);
  },

  'refuses a port where nothing listens': async () => {
    await assert.rejects(web.device.connect({ port: 9999, timeoutMs: CONNECT_MS }), { code: 'GUEST_REFUSED' });
  },

  'echoes random bytes after a half-close': async () => {
    const bytes = randomBytes(1 << 20);
    const stream = await web.device.connect({ port: ECHO_PORT, timeoutMs: CONNECT_MS });
    stream.end(bytes);
    const hash = createHash('sha256');
    for await (const chunk of stream) hash.update(chunk);
    assert.equal(hash.digest('hex'), createHash('sha256').update(bytes).digest('hex'));
  },

  'runs a command in the guest': async () => {
    const stream = await db.device.connect({ port: RUN_PORT, timeoutMs: CONNECT_MS });
    stream.end('echo $((6 * 7))\n');
    assert.equal(await text(stream), '42\n');
  },

  'ends an attempt at once when it is cancelled': async () => {
    web.guest.process.kill('SIGSTOP');
    const abort = new AbortController();
    const attempt = web.device.connect({ port: ECHO_PORT, timeoutMs: 60_000, signal: abort.signal });
    setImmediate(() => abort.abort(new Error('enough')));
    await assert.rejects(attempt, /enough/);
    await assert.rejects(web.device.connect({ port: ECHO_PORT, timeoutMs: 100 }), { code: 'GUEST_UNREACHABLE' });
    web.guest.process.kill('SIGCONT');
  },

  'can be taken over by a later agent': async () => {
    const adopted = await transport.adopt({ vm: 'web', runDir: '/tmp', state: web.device.state });
    const stream = await adopted.connect({ port: ECHO_PORT, timeoutMs: CONNECT_MS });
    stream.end('hello');
    assert.equal(await text(stream), 'hello');
  },

  'ends streams when QEMU is gone, and says so to who comes later': async () => {
    const stream = await web.device.connect({ port: ECHO_PORT, timeoutMs: CONNECT_MS });
    stream.resume();
    stream.on('error', () => {});
    const closed = once(stream, 'close').catch(() => {});
    await web.guest[Symbol.asyncDispose]();
    stream.end();
    await closed;
    await assert.rejects(web.device.connect({ port: ECHO_PORT, timeoutMs: 1000 }), { code: 'GUEST_UNREACHABLE' });
    await web.device[Symbol.asyncDispose]();
    await assert.rejects(web.device.connect({ port: ECHO_PORT, timeoutMs: 1000 }), /no vsock device any more/);
  },
};

const describe = (): string => [web, db].map(({ vm, guest }) => `${vm}: ${guest.tail()}`).join('\n');
await runCases(cases, { describe });
