/** Sleep, snapshots and clones by the command line, through a hub and an agent of their own: what is printed, and what has happened then. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startFleet, type TestFleet, whyNoGuest } from '../support/up.ts';

const missing = whyNoGuest();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const MIB = 1024 ** 2;

describe.skipIf(missing !== undefined)('fairlead', () => {
  let fleet: TestFleet;
  beforeAll(async () => {
    fleet = await startFleet();
    // The firmware finds nothing to boot: a guest that costs nothing.
    const memory = { bytes: 64 * MIB, backing: 'file' as const };
    await fleet.hub.call('vm.run', { spec: { name: 'web', accelerator: 'tcg', memory, devices: { balloon: false } } });
  });
  afterAll(() => fleet?.[Symbol.asyncDispose]());

  const stateOf = async (vm: string) => (await fleet.hub.call('vm.get', { vm })).state;
  /** What it prints; fails the test where the command does. */
  async function says(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await fleet.cli(args);
    expect(code, `fairlead ${args.join(' ')}: ${stderr}`).toBe(0);
    return stdout;
  }
  const json = async (...args: string[]) => JSON.parse(await says(...args, '--output', 'json'));
  async function fails(...args: string[]): Promise<string> {
    const { code, stderr } = await fleet.cli(args);
    expect(code, args.join(' ')).not.toBe(0);
    return stderr;
  }

  it('vm suspend, hold and resume put a VM to sleep and wake it', async () => {
    expect(await says('vm', 'suspend', 'web')).toMatch(/suspended/);
    expect(await stateOf('web')).toBe('suspended');
    expect(await says('vm', 'resume', 'web')).toMatch(/running/);
    expect(await json('vm', 'suspend', 'web')).toMatchObject({ state: 'suspended', suspended: { durability: 'process' } });
    expect(await says('vm', 'hold', 'web', '1m')).toMatch(/awake until/);
    expect(await stateOf('web')).toBe('running');
    expect(await fails('vm', 'suspend', 'none')).toMatch(/none/);
  });

  it('snapshot create, ls, show and verify make one and tell of it', async () => {
    expect(await says('snapshot', 'create', 'web', 'one', '--instant', '--clonable')).toMatch(/instant, clonable/);
    expect(await json('snapshot', 'create', 'web', 'two')).toMatchObject({ name: 'two', vm: 'web', mode: 'stream' });
    expect(await says('snapshot', 'ls')).toMatch(/one[^]*instant, clonable[^]*two[^]*stream/);
    expect((await json('snapshot', 'ls', '--vm', 'other')).length ?? 0).toBe(0);
    expect(await says('snapshot', 'show', 'one')).toMatch(/vm +web[^]*memory +6[47]/);
    expect(await says('snapshot', 'verify', 'two')).toMatch(/whole +yes/);
    expect(await fails('snapshot', 'create', 'web', 'one')).toMatch(/one/);
    expect(await fails('snapshot', 'show', 'none')).toMatch(/none/);
  });

  it('vm clone makes VMs that keep their snapshot from being removed', async () => {
    const made = await says('vm', 'clone', 'one', '--names', 'left', 'right', '--count', '2');
    expect(made).toMatch(/left +running[^]*right +running/);
    expect([await stateOf('left'), await stateOf('right')]).toEqual(['running', 'running']);
    expect(await fails('snapshot', 'rm', 'one')).toMatch(/left/);
    await Promise.all(['left', 'right'].map((vm) => fleet.hub.call('vm.delete', { vm, force: true })));
  });

  it('snapshot restore brings a stopped VM back, paused where that was asked for', async () => {
    await fleet.hub.call('vm.stop', { vm: 'web', graceMs: 0 });
    expect(await says('snapshot', 'restore', 'two', '--paused')).toMatch(/paused/);
    expect(await stateOf('web')).toBe('paused');
    expect(await fails('snapshot', 'restore', 'two')).toMatch(/stop/);
  });

  it('snapshot verify says NO of one that was changed, and fails', async () => {
    const state = join(fleet.directory, 'agent', 'snapshots', 'two', 'state');
    await using file = await open(state, 'r+');
    await file.write(Buffer.from('x'), 0, 1, 5_000);
    const { code, stdout } = await fleet.cli(['snapshot', 'verify', 'two']);
    expect(stdout).toMatch(/whole +NO/);
    expect(code).toBe(1);
  });

  it('snapshot prune and rm remove them, and say what they have left', async () => {
    expect(await says('snapshot', 'prune', '--keep', '1', '--vm', 'web')).toMatch(/removed +one/);
    expect(await says('snapshot', 'rm', 'two')).toMatch(/two removed/);
    expect(await says('snapshot', 'rm', 'two')).toMatch(/was not there/);
    expect(await fleet.cli(['snapshot', 'ls'])).toMatchObject({
      code: 0,
      stdout: '',
      stderr: expect.stringMatching(/no snapshot yet/),
    });
  });
});
