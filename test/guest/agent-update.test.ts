/** A guest that runs on, and a stream into it that ends honestly, while the agent of its host is changed for another release. */
import { once } from 'node:events';
import { dirname } from 'node:path';
import { expect, it } from 'vitest';
import { artefacts, cacheDirectory } from '../../cli/image/cache.ts';
import { specFromFlags } from '../../cli/vm-spec-flags.ts';
import { LaunchedHost } from '../support/launched-host.ts';
import { testQemu } from '../support/qemu.ts';
import { waitForEvent, whyNoGuest } from '../support/up.ts';

const TIMEOUT_MS = 120_000;
const ECHO_PORT = 7;
const reason = whyNoGuest();
if (reason !== undefined) console.log(`skipped: ${reason}`);

it.skipIf(reason !== undefined)(
  'a guest outlives an update of its agent, and one that failed; its streams end with an error and can be opened anew',
  { timeout: TIMEOUT_MS },
  async () => {
    const { vhostDeviceVsock = '' } = artefacts();
    const images = [cacheDirectory(), dirname(cacheDirectory())].join(',');
    const programs = ['--qemu-binary', testQemu().binary ?? '', '--vhost-device-vsock', vhostDeviceVsock];
    await using host = await LaunchedHost.open([...programs, '--vsock', 'vhost-user', '--image-roots', images]);
    const { operator } = host;
    await host.launch();
    await host.connected();
    await using _ = { [Symbol.asyncDispose]: async () => void (await operator.call('vm.delete', { vm: 'web', force: true })) };
    const ready = waitForEvent(operator, ({ type }) => type === 'vm.ready');
    await operator.call('vm.run', { spec: await specFromFlags('web', {}) }, 'edge-1');
    await ready;
    const before = await operator.call('vm.get', { vm: 'web' });
    const { stream } = await operator.openStream({ vm: 'web', port: ECHO_PORT });
    const { promise: ended, resolve } = Promise.withResolvers<string>();
    stream.once('error', ({ message }) => resolve(message));
    stream.once('end', () => resolve('an end as if all were well'));
    stream.write('hello');
    expect(String((await once(stream, 'data'))[0])).toBe('hello');

    const release = await host.push({ version: '2.0.0' });
    expect(await host.update({ release })).toMatchObject({ release });
    expect(await ended).toContain('the stream ended with its line');
    await expect(host.update({ release: await host.push({ version: '2.0.1', entry: 'crashing' }) })).rejects.toMatchObject({
      code: 'UPDATE_FAILED',
    });

    const { pid, generation, state, ready: isReady } = await operator.call('vm.get', { vm: 'web' });
    expect({ pid, generation, state, isReady }).toEqual({
      pid: before.pid,
      generation: before.generation,
      state: 'running',
      isReady: true,
    });
    const again = await operator.openStream({ vm: 'web', port: ECHO_PORT });
    again.stream.on('error', () => {});
    again.stream.write('still there');
    expect(String((await once(again.stream, 'data'))[0])).toBe('still there');
    again.stream.destroy();
  },
);
