/** Weakness 19: a stopped VM that had a network could not be started again, for its own name was taken, and it lost its rate limits. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { spec, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

test.skipIf(missing !== undefined)('a VM with a network and limits starts again as it was, for the next agent too', async () => {
  await using host = await testHost();
  const path = join(host.options.stateDir, 'disk.raw');
  await writeFile(path, Buffer.alloc(1024 ** 2));
  await host.manager.run(
    spec({
      name: 'web',
      networks: [{ type: 'user', forwards: [] }, { type: 'user' }],
      disks: [{ path, throttle: { bytesPerSecond: '10MiB', burstBytesPerSecond: '40MiB' } }],
    }),
  );
  const { argv } = await host.manager.args({ vm: 'web' });
  expect(argv.filter((argument) => argument.includes('"mac":'))).toHaveLength(2);
  expect(argv.join(' ')).toContain('"bps-total":10485760,"bps-total-max":41943040');

  await host.manager.stop('web', { graceMs: 0 });
  expect(await host.manager.start('web')).toMatchObject({ state: 'running', generation: 2 });
  expect((await host.manager.args({ vm: 'web' })).argv).toEqual(argv);

  await host.manager.stop('web', { graceMs: 0 });
  const manager = await host.restart();
  expect(await manager.start('web')).toMatchObject({ state: 'running', generation: 3 });
  expect((await manager.args({ vm: 'web' })).argv).toEqual(argv);
});
