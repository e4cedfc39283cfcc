/** Weakness 25: guests on ARM were told to use the serial port of a PC, and stray processes were looked for by the name of another program. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { identityOf } from '../../agent/process-identity.ts';
import { buildArgs } from '../../agent/vm/argv/build-args.ts';
import { spec, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const PATHS = {
  monitorSocket: '/r/m',
  consolePipes: '/r/c',
  consoleLog: '/s/c',
  guestAgentSocket: '/r/a',
  ramFile: '/s/r',
  addedRamFile: '/s/a',
};

test('the kernel of a guest on virt gets the arguments of its spec, and the machine its own serial port', () => {
  const virt = spec({ name: 'web', machine: 'virt', boot: { kernel: '/k', args: 'console=ttyAMA0' } });
  const host = {
    uuid: 'u',
    accelerator: 'tcg',
    machine: 'virt-7.2',
    sandbox: true,
    tscKhz: 1,
    vsock: undefined,
    paths: PATHS,
  } as const;
  const argv = buildArgs(virt, host);
  expect(argv[argv.indexOf('-append') + 1]).toBe('console=ttyAMA0');
  expect(argv[argv.indexOf('-serial') + 1]).toBe('chardev:console');
  expect(argv.join(' ')).not.toMatch(/ttyS0|isa|ide-|q35|tsc/);
});

test.skipIf(missing !== undefined)('a stray process of a VM is known by the uuid in its arguments, not by its name', async () => {
  await using host = await testHost();
  await host.manager.create(spec({ name: 'web' }));
  const { uuid } = host.manager.get('web');
  const namesake = spawn(host.options.qemuBinary ?? '', ['-M', 'none', '-S', '-nodefaults', '-display', 'none'], {
    stdio: 'ignore',
  });
  await once(namesake, 'spawn');
  const exited = once(namesake, 'exit');
  try {
    await host.manager.start('web');
    const manager = await host.restart();
    expect(manager.get('web')).toMatchObject({ state: 'running', uuid });
    await manager.delete('web', { force: true });
    expect(identityOf(namesake.pid ?? 0)).toBeDefined();
  } finally {
    namesake.kill('SIGKILL');
    await exited;
  }
});
