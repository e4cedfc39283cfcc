/** What the fleet does with a real guest: rollouts that probe it, sleep from which a command wakes it, images for its disks. One guest for all. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { specFromFlags } from '../../cli/vm-spec-flags.ts';
import { startFleet, type TestFleet, waitForEvent, whyNoGuest } from '../support/up.ts';

const missing = whyNoGuest();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const ENTRY = fileURLToPath(new URL('../../bin/fairlead.js', import.meta.url));
const ECHO_PORT = 7;
const NOBODY = 4711;
const TIMEOUT_MS = 180_000;
const KIB = 1024;

describe.skipIf(missing !== undefined)('a real guest of a fleet', { timeout: TIMEOUT_MS }, () => {
  let fleet: TestFleet;
  beforeAll(async () => {
    fleet = await startFleet();
    const ready = waitForEvent(fleet.hub, ({ vm, type }) => vm === 'web' && type === 'vm.ready');
    const spec = await specFromFlags('web', { memoryBacking: 'file' });
    await fleet.hub.call('vm.run', { spec: { ...spec, disks: [{ media: 'cdrom', id: 'cd' }] } });
    await ready;
  }, TIMEOUT_MS);
  afterAll(() => fleet?.[Symbol.asyncDispose]());

  const stateOf = async () => (await fleet.hub.call('vm.get', { vm: 'web' })).state;

  describe('probed by a rollout', () => {
    const FREE = { selector: {}, steps: [{ kind: 'vm' as const }], budget: { maxUnavailable: '100%', perZone: '100%' } };
    const becomes = (rollout: string, status: string) =>
      expect
        .poll(async () => (await fleet.hub.call('rollout.get', { rollout })).status, { timeout: TIMEOUT_MS, interval: 250 })
        .toBe(status);

    it('passes when it says what is expected, over its restart by the rollout', async () => {
      const { generation } = await fleet.hub.call('vm.get', { vm: 'web' });
      const probe = { kind: 'guest-probe' as const, port: ECHO_PORT, send: 'are you there', expect: 'you there' };
      const health = { checks: [{ kind: 'vm-state' as const }, probe], intervalMs: 500, successes: 2, deadlineMs: 150_000 };
      await fleet.hub.call('rollout.start', { rollout: 'probed', spec: { ...FREE, health } });
      await becomes('probed', 'completed');
      const after = await fleet.hub.call('vm.get', { vm: 'web' });
      expect([after.state, after.generation > generation]).toEqual(['running', true]);
    });

    it('fails when nobody listens, or says something else, and the words say which', async () => {
      const call = {
        kind: 'call' as const,
        method: 'vm.start',
        params: { vm: 'web' },
        undo: { method: 'vm.start', params: { vm: 'web' } },
      };
      const failing = async (rollout: string, probe: { port: number; send?: string; expect?: string }) => {
        const checks = [{ kind: 'guest-probe' as const, ...probe }];
        const health = { checks, timeoutMs: 1500, intervalMs: 200, deadlineMs: 200 };
        const steps = [{ kind: 'vm' as const, vms: { names: ['web'] }, graceMs: 0 }, call];
        await fleet.hub.call('rollout.start', { rollout, spec: { ...FREE, steps, health } });
        await becomes(rollout, 'paused');
        const { hosts } = await fleet.hub.call('rollout.hosts', { rollout, phase: 'failed' });
        return hosts[0]?.failure;
      };
      expect(await failing('deaf', { port: NOBODY })).toMatchObject({
        class: 'unhealthy',
        error: expect.stringMatching(new RegExp(`port ${NOBODY} of VM web: `)),
      });
      await fleet.hub.call('rollout.abort', { rollout: 'deaf' });
      expect((await failing('other', { port: ECHO_PORT, send: 'abc', expect: 'xyz' }))?.class).toBe('unhealthy');
      await fleet.hub.call('rollout.abort', { rollout: 'other' });
    });
  });

  describe('asleep', () => {
    it('is woken by exec', async () => {
      await fleet.hub.call('vm.suspend', { vm: 'web' });
      expect(await fleet.cli(['exec', 'web', '--', 'echo', 'awake'])).toEqual({ code: 0, stdout: 'awake\n', stderr: '' });
      expect(await stateOf()).toBe('running');
    });

    it('is woken by a connection that is forwarded to it, and not by the forwarding itself', async () => {
      await fleet.hub.call('vm.suspend', { vm: 'web' });
      const env = { ...process.env, FAIRLEAD_CONTEXT: fleet.up.contextFile };
      const forward = spawn(process.execPath, [ENTRY, 'forward', 'web', `0:${ECHO_PORT}`], {
        env,
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      const exited = once(forward, 'exit');
      try {
        const [line] = await once(createInterface(forward.stderr), 'line');
        const [, port] = /^127\.0\.0\.1:(\d+) leads/.exec(String(line)) ?? [];
        expect(await stateOf()).toBe('suspended');
        const socket = connect({ host: '127.0.0.1', port: Number(port) });
        socket.write('hello');
        const [echoed] = await once(socket, 'data');
        expect(String(echoed)).toBe('hello');
        expect(await stateOf()).toBe('running');
        socket.destroy();
      } finally {
        forward.kill('SIGTERM');
        await exited;
      }
    });
  });

  describe('given images while it runs', () => {
    const pushed = async (name: string, bytes: Buffer): Promise<string> => {
      const path = join(fleet.directory, name);
      await writeFile(path, bytes);
      const { code, stderr } = await fleet.cli(['image', 'push', path, '--tag', `${name}:1`]);
      expect(code, stderr).toBe(0);
      return (await fleet.hub.call('image.resolve', { image: `${name}:1` })).digest;
    };
    const diskOf = async (id: string) =>
      (await fleet.hub.call('vm.get', { vm: 'web' })).spec.disks.find((disk) => disk.id === id);
    const inGuest = async (script: string) => (await fleet.cli(['exec', 'web', '--', 'sh', '-c', script])).stdout.trim();
    const says = async (...args: string[]) => {
      const { code, stdout, stderr } = await fleet.cli(args);
      expect(code, stderr).toBe(0);
      return `${stdout}${stderr}`;
    };

    it('has a disk by tag on a layer of its own, and the same one when it is told again', async () => {
      const bytes = randomBytes(256 * KIB);
      const digest = await pushed('data', bytes);
      const attach = () => says('vm', 'disk', 'attach', 'web', 'data', 'image:data:1');
      expect(await attach()).toContain('disk data is attached');
      const disk = await diskOf('data');
      expect(disk).toMatchObject({ format: 'qcow2', path: expect.stringContaining('/images/overlays/web/data-') });
      expect(await attach()).toContain('already attached');
      expect(await diskOf('data')).toEqual(disk);
      const written = await inGuest(
        'for d in /sys/block/vd*; do [ $(cat $d/size) = 512 ] && echo -n new | dd of=/dev/${d##*/} conv=notrunc 2>/dev/null && sync && head -c 3 /dev/${d##*/}; done',
      );
      expect(written).toBe('new');
      const { digests } = await fleet.hub.call('blob.collect', {});
      expect(digests).not.toContain(digest);
      expect((await fleet.hub.call('blob.list', {})).blobs).toContainEqual({ digest, bytes: bytes.length, inUse: true });
    });

    it('has a medium by digest, which is the image itself', async () => {
      const digest = await pushed('tools', randomBytes(64 * KIB));
      expect(await says('vm', 'medium', 'change', 'web', 'cd', `image:${digest}`)).toContain('now on');
      expect((await diskOf('cd'))?.path).toContain(`/images/sha256/${digest.slice(7)}`);
      expect(await says('vm', 'medium', 'change', 'web', 'cd', 'image:tools:1')).toContain('already on');
      const unknown = await fleet.cli(['vm', 'medium', 'change', 'web', 'cd', 'image:none:1']);
      expect([unknown.code, unknown.stderr]).toEqual([expect.any(Number), expect.stringContaining('no image none:1')]);
    });
  });
});
