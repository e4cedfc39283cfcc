/**
 * Symptom: after a pause beneath a stream that the guest filled, every stream into the guest stood still for ever, and so did each dial.
 * Cause: what the agent read in the pause ended the worker of vhost-device-vsock, whose process lives on without it.
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { identityOf } from '../../agent/process-identity.ts';
import { hasLostWorker } from '../../agent/streams/daemon-threads.ts';
import { vhostUserTransport } from '../../agent/streams/vhost-user.ts';
import { demoImage } from '../../cli/image/demo-image.ts';
import { programsWith } from '../support/agent-process.ts';
import { nextEvent, silent, spec, type TestHost, testHost } from '../support/vm.ts';
import { missingForVsockGuest, VHOST_DEVICE_VSOCK } from '../support/vsock-guest.ts';

const missing = missingForVsockGuest();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const ECHO_PORT = 7;
const RUN_PORT = 1024;
const READY_PORT = 1023;
/** More than all that is on its way when the guest is paused. */
const BYTES = 4 * 1024 ** 2;

describe.skipIf(missing !== undefined)('a guest that was paused beneath its streams', { timeout: 180_000 }, () => {
  let host: TestHost;

  beforeAll(async () => {
    const transport = vhostUserTransport({ binary: VHOST_DEVICE_VSOCK, logger: silent });
    host = await testHost({ vsock: { available: true, transport } });
    const { kernel, initrd, args } = demoImage() ?? {};
    const ready = nextEvent(host.manager, 'vm.ready');
    await host.manager.run(
      spec({
        name: 'web',
        memory: { bytes: '192MiB' },
        boot: { kernel, initrd, args },
        vsock: { readyPort: READY_PORT },
      }),
    );
    await ready;
  }, 180_000);
  afterAll(() => host?.[Symbol.asyncDispose]());

  const open = async (port: number): Promise<Duplex> =>
    (await host.manager.openStream({ vm: 'web', port, connectTimeoutMs: 60_000 })).stream;

  test('goes on with them where it was', async () => {
    const stream = await open(RUN_PORT);
    stream.write('cat /dev/zero\n');
    for (let pauses = 0; pauses < 3; pauses += 1) {
      await read(stream, BYTES);
      await host.manager.pause('web');
      // Turns of the event loop, in which whatever is there to be read is read.
      for (let turns = 0; turns < 100; turns += 1) await setImmediate();
      await host.manager.resume('web');
    }
    expect(await read(stream, BYTES)).toBeGreaterThanOrEqual(BYTES);
    stream.destroy();
    const echo = await open(ECHO_PORT);
    echo.write('here');
    expect(await read(echo, 'here'.length)).toBe('here'.length);
    echo.destroy();
  });

  test('ends them with an error where its daemon was hurt all the same, and the next are told why at once', async () => {
    const stream = await open(ECHO_PORT);
    const failed = once(stream.resume(), 'error');
    await host.manager.pause('web');
    // Somebody dials past the agent.
    const dial = connect(join(host.options.runDir, 'web', 'vs'));
    await once(dial, 'connect');
    dial.on('error', () => {}).write(`CONNECT ${ECHO_PORT}\n`);
    const [daemon] = programsWith(host.options.runDir).flatMap(({ pid, isQemu }) => (isQemu ? [] : (identityOf(pid) ?? [])));
    if (daemon === undefined) throw new Error('the VM has no vsock daemon');
    await expect.poll(() => hasLostWorker(daemon), { timeout: 60_000 }).toBe(true);
    await host.manager.resume('web');
    expect(await failed).toMatchObject([{ code: 'STREAM_RESET', details: { reset: 'NO_DEVICE' } }]);
    await expect(open(ECHO_PORT)).rejects.toMatchObject({
      code: 'PROCESS_FAILED',
      message: 'the vsock daemon of VM web carried nothing any more, and was ended: stop and start the VM',
    });
    dial.destroy();
  });
});

/** Reads on until as many bytes more have come; the stream flows on. */
async function read(stream: Duplex, bytes: number): Promise<number> {
  let taken = 0;
  const { promise, resolve } = Promise.withResolvers<void>();
  const count = (chunk: Buffer): void => {
    taken += chunk.length;
    if (taken >= bytes) resolve();
  };
  stream.on('data', count);
  await Promise.race([promise, once(stream, 'end')]);
  stream.off('data', count);
  return taken;
}
