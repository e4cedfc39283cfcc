/** Weakness 22: the connection into a guest was kept over its stop, and the first call after the next start went into the dead one. */
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import { vhostUserTransport } from '../../agent/streams/vhost-user.ts';
import { demoImage } from '../../cli/image/demo-image.ts';
import { nextEvent, silent, spec, testHost } from '../support/vm.ts';
import { missingForVsockGuest, VHOST_DEVICE_VSOCK } from '../support/vsock-guest.ts';

const missing = missingForVsockGuest();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const ECHO_PORT = 7;
const READY_PORT = 1023;

test.skipIf(missing !== undefined)(
  'streams end with the life that they lead into, and the first after a start leads into the new one',
  { timeout: 180_000 },
  async () => {
    const transport = vhostUserTransport({ binary: VHOST_DEVICE_VSOCK, logger: silent });
    await using host = await testHost({ vsock: { available: true, transport } });
    const { manager } = host;
    const { kernel, initrd, args } = demoImage() ?? {};
    const guest = spec({
      name: 'web',
      memory: { bytes: '192MiB' },
      boot: { kernel, initrd, args },
      vsock: { readyPort: READY_PORT },
    });
    const open = () => manager.openStream({ vm: 'web', port: ECHO_PORT, connectTimeoutMs: 60_000 });

    let ready = nextEvent(manager, 'vm.ready');
    await manager.run(guest);
    await ready;
    const first = await open();
    expect(await echo(first.stream, 'one')).toBe('one');
    const ended = once(first.stream, 'error');
    await manager.stop('web', { graceMs: 0 });
    expect(await ended).toMatchObject([{ code: 'STREAM_RESET' }]);
    await expect(open()).rejects.toMatchObject({ code: 'WRONG_STATE' });

    ready = nextEvent(manager, 'vm.ready');
    await manager.start('web');
    await ready;
    const second = await open();
    expect(await echo(second.stream, 'two')).toBe('two');
    expect(second.generation).toBe(first.generation + 1);
    second.stream.destroy();
  },
);

async function echo(stream: Duplex, text: string): Promise<string> {
  stream.write(text);
  const [answer] = await once(stream, 'data');
  return String(answer);
}
