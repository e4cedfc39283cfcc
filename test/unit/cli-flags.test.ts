import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { InvalidArgumentError } from 'commander';
import * as v from 'valibot';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { contextPath, resolveContext, writeContext } from '../../cli/context.ts';
import { parseDuration } from '../../cli/duration.ts';
import { describeFailure, exitCodeOf } from '../../cli/failure.ts';
import { specFromFlags } from '../../cli/vm-spec-flags.ts';
import { collectForwards, collectLabels } from '../../cli/vm-spec-options.ts';
import { FairleadError } from '../../shared/errors.ts';
import { VmSpec } from '../../shared/protocol/vm-spec.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fairlead-cli-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

describe('durations', () => {
  it.each([
    ['500ms', 500],
    ['30s', 30_000],
    ['30', 30_000],
    ['1.5m', 90_000],
    ['1h', 3_600_000],
  ])('%s is %d ms', (text, ms) => expect(parseDuration(text)).toBe(ms));

  it.each(['', 'soon', '-1s', '1 s', '1w'])('%j is refused', (text) =>
    expect(() => parseDuration(text)).toThrow(InvalidArgumentError),
  );
});

describe('the VM spec', () => {
  it('takes its ground from the file and lets flags lie over it', async () => {
    const file = join(directory, 'web.yaml');
    await writeFile(file, 'memory: { bytes: 1GiB }\ncpus: { count: 4 }\nboot: { kernel: /k, args: quiet }\nlabels: { a: "1" }\n');
    const spec = await specFromFlags('web', { file, memory: '512MiB', initrd: '/i', label: { b: '2' } });
    expect(spec).toEqual({
      name: 'web',
      memory: { bytes: '512MiB' },
      cpus: { count: 4 },
      boot: { kernel: '/k', initrd: '/i', args: 'quiet' },
      labels: { a: '1', b: '2' },
    });
  });

  it('makes relative paths absolute and knows qcow2 by its name', async () => {
    const spec = await specFromFlags('web', { disk: ['a.qcow2', '/b.raw'] });
    expect(spec.disks).toEqual([
      { path: join(process.cwd(), 'a.qcow2'), format: 'qcow2' },
      { path: '/b.raw', format: 'raw' },
    ]);
  });

  it('has a field for every flag', async () => {
    const flags = {
      maxMemory: '2GiB',
      memoryBacking: 'file',
      firmware: '/code.fd',
      firmwareVars: 'vars.fd',
      disk: ['/a.raw'],
      cdrom: ['/setup.iso', 'empty'],
      tap: ['tap0'],
      bridge: ['br0'],
      forward: [{ hostPort: 8080, guestPort: 80 }],
      pci: ['0000:3b:00.0'],
      hotplugSlots: 8,
      guestAgent: 'virtio-serial',
      restart: 'on-failure',
      suspendAfter: 60_000,
    } as const;
    const spec = await specFromFlags('web', flags);
    expect(spec).toEqual({
      name: 'web',
      memory: { maxBytes: '2GiB', backing: 'file' },
      boot: { firmware: { code: '/code.fd', vars: join(process.cwd(), 'vars.fd') } },
      disks: [{ path: '/a.raw', format: 'raw' }, { media: 'cdrom', path: '/setup.iso' }, { media: 'cdrom' }],
      networks: [
        { type: 'tap', tap: 'tap0' },
        { type: 'bridge', bridge: 'br0' },
        { type: 'user', forwards: [{ hostPort: 8080, guestPort: 80 }] },
      ],
      pciDevices: ['0000:3b:00.0'],
      devices: { hotplugSlots: 8 },
      guestAgent: { via: 'virtio-serial' },
      restart: { policy: 'on-failure' },
      idle: { suspendAfterMs: 60_000 },
    });
    expect(() => v.parse(VmSpec, spec)).not.toThrow();
    await expect(specFromFlags('web', { disk: ['/a'], firmwareVars: '/vars' })).rejects.toThrow('give --firmware too');
  });

  it.each([
    ['- a list', 'could not understand'],
    ['{', 'could not understand'],
  ])('that is %j is refused by name', async (text, message) => {
    const file = join(directory, 'bad.yaml');
    await writeFile(file, text);
    await expect(specFromFlags('web', { file })).rejects.toThrow(message);
  });

  it('that does not exist is NOT_FOUND', async () => {
    await expect(specFromFlags('web', { file: join(directory, 'none') })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('collects labels and forwards, and refuses what is none', () => {
    expect(collectLabels('a=b=c', { x: 'y' })).toEqual({ x: 'y', a: 'b=c' });
    expect(() => collectLabels('=b')).toThrow(InvalidArgumentError);
    expect(collectForwards('8080:80')).toEqual([{ hostPort: 8080, guestPort: 80 }]);
    expect(() => collectForwards('80')).toThrow(InvalidArgumentError);
  });
});

describe('the context', () => {
  const stored = { hub: 'ws://127.0.0.1:1', token: 'stored' };

  it('is written for its owner alone and read back', async () => {
    const path = join(directory, 'deep', 'context.json');
    await writeContext(path, stored);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await resolveContext({}, { FAIRLEAD_CONTEXT: path })).toEqual(stored);
  });

  it('gives way to the environment, and that to flags', async () => {
    const env = { FAIRLEAD_CONTEXT: join(directory, 'none'), FAIRLEAD_HUB: 'wss://env', FAIRLEAD_TOKEN: 'env' };
    expect(await resolveContext({}, env)).toEqual({ hub: 'wss://env', token: 'env' });
    expect(await resolveContext({ hub: 'wss://flag', token: 'flag' }, env)).toEqual({ hub: 'wss://flag', token: 'flag' });
  });

  it('never sends the stored token to another hub', async () => {
    const path = join(directory, 'context.json');
    await writeContext(path, stored);
    await expect(resolveContext({ hub: 'wss://elsewhere' }, { FAIRLEAD_CONTEXT: path })).rejects.toThrow(
      'no token for the hub wss://elsewhere',
    );
  });

  it('that is damaged says so with its path', async () => {
    const path = join(directory, 'context.json');
    await writeFile(path, '{"hub":');
    await expect(resolveContext({}, { FAIRLEAD_CONTEXT: path })).rejects.toThrow(path);
  });

  it('is looked for where XDG says', () => expect(contextPath({ XDG_CONFIG_HOME: '/x' })).toBe('/x/fairlead/context.json'));
});

describe('a failure', () => {
  it('has the exit code of its error, and 1 for what is no error of ours', () => {
    expect(exitCodeOf(new FairleadError('NOT_FOUND', 'x'))).toBe(3);
    expect(exitCodeOf(new FairleadError('TIMEOUT', 'x'))).toBe(124);
    expect(exitCodeOf(new TypeError('x'))).toBe(1);
  });

  it('is told in one line with its cause below it', () => {
    const cause = new Error('connect ECONNREFUSED');
    expect(describeFailure(new FairleadError('CONNECT_FAILED', 'could not reach the hub', { cause }))).toBe(
      'fairlead: could not reach the hub (CONNECT_FAILED)\n  because: connect ECONNREFUSED',
    );
  });
});
