/** Verbs for a fleet on the command line: a real hub, real agents whose VMs are played, each command a process of its own. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type PlayedFleet, startPlayedFleet } from '../support/played-fleet.ts';
import { startPlayedHost } from '../support/played-host.ts';

const TIMEOUT_MS = 120_000;
const FREE = { selector: {}, budget: { maxUnavailable: '100%', perZone: '100%' }, zones: { order: 'concurrent' } };

let fleet: PlayedFleet;
beforeEach(async () => {
  fleet = await startPlayedFleet(['a1', 'b1']);
});
afterEach(() => fleet?.[Symbol.asyncDispose]());

const json = async (...args: string[]) => JSON.parse((await fleet.cli([...args, '--output', 'json'])).stdout);

/** Its agent ends; its VMs do not. */
async function goAway(name: string): Promise<void> {
  await fleet.hosts.find((host) => host.name === name)?.[Symbol.asyncDispose]();
  await expect.poll(async () => (await fleet.call('host.get', { host: name }))['connected']).toBe(false);
}

describe('host drain', { timeout: TIMEOUT_MS }, () => {
  it('puts the VMs of a host to rest, and the host takes none until it is uncordoned', async () => {
    const drained = await fleet.cli(['host', 'drain', 'a1', '--reason', 'new disk', '--grace', '1s']);
    expect([drained.code, drained.stderr]).toEqual([0, expect.stringContaining('host a1 takes no new VMs; 1 were put to rest')]);
    expect(fleet.hosts.map(({ vms }) => vms.get('vm-1').state)).toEqual(['stopped', 'running']);
    const create = ['rpc', 'a1', 'vm.create', '{"spec":{"name":"new"}}'];
    const refused = await fleet.cli(create);
    expect([refused.code, refused.stderr]).toEqual([4, expect.stringContaining('new disk')]);
    expect((await fleet.cli(['host', 'uncordon', 'a1'])).code).toBe(0);
    expect(await fleet.cli(create)).toMatchObject({ code: 0, stderr: '' });
  });

  it('says that a host is away, and of a host that there is not', async () => {
    await goAway('a1');
    expect((await fleet.cli(['host', 'drain', 'a1'])).code).not.toBe(0);
    expect((await fleet.cli(['host', 'drain', 'none'])).stderr).toContain('none');
  });
});

describe('a command for a host that is away', { timeout: TIMEOUT_MS }, () => {
  const queued = (vm = 'vm-1') => fleet.cli(['vm', 'stop', vm, '--host', 'a1', '--when-offline', 'queue', '--timeout', '100s']);

  it('fails at once unless it is told to wait, and then waits in op ls --open until the host is back', async () => {
    await goAway('a1');
    const failed = await fleet.cli(['vm', 'stop', 'vm-1', '--host', 'a1']);
    expect([failed.code, failed.stderr]).toEqual([expect.any(Number), expect.stringContaining('a1')]);
    expect(failed.code).not.toBe(0);
    expect(await json('op', 'ls', '--open')).toEqual([]);

    const stopped = queued();
    await expect
      .poll(() => json('op', 'ls', '--open'), { timeout: 30_000 })
      .toMatchObject([{ host: 'a1', method: 'vm.stop', state: 'queued' }]);
    const [{ id }] = await json('op', 'ls', '--open');
    // Its host cannot be asked, and the hub has it.
    expect(await json('op', 'ls', '--host', 'a1')).toMatchObject([{ id, host: 'a1', method: 'vm.stop', state: 'queued' }]);
    const waited = fleet.cli(['op', 'wait', id]);
    await using host = await startPlayedHost(fleet.hub.url, 'a1', fleet);
    expect((await stopped).code).toBe(0);
    expect(await waited).toMatchObject({ code: 0, stdout: expect.stringMatching(/state +done/) });
    expect(host.vms.get('vm-1').state).toBe('stopped');
    expect(await json('op', 'ls', '--open')).toEqual([]);
  });

  it('is taken back by op cancel, and never runs', async () => {
    await goAway('a1');
    const stopped = queued();
    await expect.poll(() => json('op', 'ls', '--open'), { timeout: 30_000 }).toHaveLength(1);
    const [{ id }] = await json('op', 'ls', '--open');
    const late = await fleet.cli(['op', 'wait', id, '--timeout', '300ms']);
    expect([late.code, late.stderr]).toEqual([expect.any(Number), expect.stringMatching(/time|within|ms/)]);
    expect(await fleet.cli(['op', 'cancel', id])).toMatchObject({ code: 1, stdout: expect.stringContaining('CANCELLED') });
    expect((await stopped).stderr).toContain('cancelled');
    await using host = await startPlayedHost(fleet.hub.url, 'a1', fleet);
    await expect.poll(async () => (await fleet.call('host.get', { host: 'a1' }))['connected']).toBe(true);
    expect((await fleet.cli(['op', 'cancel', id])).code).toBe(1);
    expect(host.vms.get('vm-1').state).toBe('running');
    expect((await fleet.cli(['op', 'wait', 'none'])).code).not.toBe(0);
  });
});

describe('rollout watch', { timeout: TIMEOUT_MS }, () => {
  const started = (id: string) =>
    fleet.call('rollout.start', { rollout: id, spec: { ...FREE, steps: [{ kind: 'vm' }], approval: 'anyone' } });

  it('tells one event a line where nobody watches, as JSON for programs, and goes on from a number', async () => {
    await started('r1');
    const watched = fleet.cli(['rollout', 'watch', 'r1', '--output', 'json']);
    await fleet.cli(['rollout', 'approve', 'r1']);
    const { code, stdout } = await watched;
    expect(code).toBe(0);
    const events = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(events[0]).toMatchObject({ fact: { type: 'planned', hosts: 2 } });
    expect(events.at(-1)).toMatchObject({ fact: { type: 'ended', outcome: 'completed' } });
    const again = await fleet.cli(['rollout', 'watch', 'r1', '--since', String(events.at(-2).seq)]);
    expect(again.stdout.trim().split('\n')).toEqual([
      expect.stringContaining('ended'),
      expect.stringMatching(/^r1 {2}completed/),
    ]);
    expect(again.stdout).not.toContain('\u001b');
  });

  const why = existsSync('/usr/bin/script') ? undefined : 'there is no script(1) to make a terminal';
  if (why !== undefined) console.warn(`skipped: ${why}`);

  it.skipIf(why !== undefined)(
    'writes a bar over itself on a terminal, what matters above it, and ends with where it stands',
    async () => {
      await started('r1');
      const command = [process.execPath, ...fleet.args('rollout', 'watch', 'r1')].map((word) => `'${word}'`).join(' ');
      // So wide that nothing need be cut.
      const child = spawn('/usr/bin/script', ['-qec', `stty cols 200; ${command}`, '/dev/null'], {
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      let shown = '';
      const first = `\r\u001b[Kr1  awaiting-approval  wave 1/2  [${'.'.repeat(30)}]  0/2`;
      const bar = Promise.withResolvers<void>();
      child.stdout.on('data', (bytes: Buffer) => {
        shown += bytes.toString();
        if (shown.includes(first)) bar.resolve();
      });
      const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
      await Promise.race([bar.promise, ended]);
      expect(shown).toContain(first);
      await fleet.cli(['rollout', 'approve', 'r1']);
      expect(await ended).toBe(0);
      const lines = shown.split('\r\n');
      // What is told stays, the bar does not; hosts are in the bar.
      expect(lines.some((line) => line.includes('ended  outcome=completed'))).toBe(true);
      expect(shown).not.toContain('host-done');
      expect(lines.at(-2)?.split('\u001b[K').at(-1)).toMatch(/^r1 {2}completed {2}wave 2\/2 {2}\[#{30}\] {2}2\/2/);
      expect(lines.at(-1)).toBe('');
    },
  );

  it('ends with 1 where it was aborted', async () => {
    await started('r1');
    const child = spawn(process.execPath, fleet.args('rollout', 'watch', 'r1'), { stdio: ['ignore', 'pipe', 'ignore'] });
    const said = text(child.stdout);
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    await fleet.cli(['rollout', 'abort', 'r1', '--reason', 'no']);
    expect(await ended).toBe(1);
    expect(await said).toMatch(/aborted[^]*r1 {2}aborted/);
  });
});
