/** Console, logs and exec as an operator has them: through the hub, with the real guest behind. */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startFleet, type TestFleet, waitForEvent, whyNoGuest } from '../support/up.ts';

const reason = whyNoGuest();
const READY = 'FAIRLEAD GUEST READY';

/** Collects what comes and settles when it shows the text. */
function watching(stream: Duplex): { shows(text: string): Promise<void>; readonly seen: string } {
  let seen = '';
  stream.on('data', (chunk: Buffer) => {
    seen += chunk.toString('latin1');
    stream.emit('seen');
  });
  return {
    get seen() {
      return seen;
    },
    async shows(text) {
      while (!seen.includes(text)) await once(stream, 'seen');
    },
  };
}

if (reason !== undefined) console.log(`skipped: ${reason}`);

describe.skipIf(reason !== undefined)("a guest's console and programs", () => {
  let fleet: TestFleet;
  beforeAll(async () => {
    fleet = await startFleet();
    await fleet.runReady('web');
    // A guest program that answers on the serial line.
    await exec(
      'stty -F /dev/ttyS0 raw -echo; (while read -r line; do echo "you said $line"; done </dev/ttyS0 >/dev/ttyS0) >/dev/null 2>&1 &',
    );
  }, 120_000);
  afterAll(() => fleet[Symbol.asyncDispose]());

  const exec = (script: string, ...options: string[]) => fleet.cli(['exec', 'web', ...options, '--', 'sh', '-c', script]);
  const console = (params: { readOnly?: boolean; historyBytes?: number } = {}) =>
    fleet.hub.open('vm.console', { vm: 'web', ...params });

  test('a program ends with its own code, and its input and outputs are passed on', async () => {
    expect(await exec('echo out; echo err >&2; exit 7')).toEqual({ code: 7, stdout: 'out\n', stderr: 'err\n' });
    expect(await fleet.cli(['exec', 'web', '--', 'cat'], 'piped\n')).toMatchObject({ code: 0, stdout: 'piped\n' });
    expect(await exec('kill -KILL $$')).toMatchObject({ code: 137 });
    expect(await exec('sleep 4321', '--limit', '300ms')).toMatchObject({
      code: 124,
      stderr: expect.stringContaining('did not end in time, and was killed'),
    });
    expect(await exec('echo $A', '--env', 'A=b c')).toMatchObject({ stdout: 'b c\n' });
    expect(await fleet.cli(['exec', 'web', '--', 'cat'], Buffer.alloc(70_000))).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('longer than the 65536 bytes'),
    });
    const long = await exec('head -c 100000 /dev/zero');
    expect(long.stdout).toHaveLength(65_536);
    expect(long.stderr).toContain('34464 bytes');
  });

  test('what the agent of the guest says is shown', async () => {
    expect((await fleet.cli(['guest', 'info', 'web'])).stdout).toMatch(/hostname +fairlead-guest\n.*\n(.*\n)*agent +qemu-ga \d/);
    expect((await fleet.cli(['guest', 'ping', 'web'])).stdout).toMatch(/answered in +[\d.]+ ms/);
    expect((await fleet.cli(['guest', 'frozen', 'web'])).stdout).toMatch(/file systems +thawed/);
  });

  test('several watch and several write, each sees all from its history on, without a hole', async () => {
    const [one, two, three] = [await console(), await console(), await console({ readOnly: true, historyBytes: 100_000 })];
    const watchers = [one, two, three].map(({ stream }) => watching(stream));
    one.stream.write('alpha\n');
    await Promise.all(watchers.map((watcher) => watcher.shows('you said alpha')));
    three.stream.write('never\n');
    two.stream.write('beta\n');
    await Promise.all(watchers.map((watcher) => watcher.shows('you said beta')));
    const log = await readFile(join(fleet.directory, 'agent/vms/web/logs/console.log'), 'latin1').catch(() => undefined);
    for (const watcher of watchers) {
      expect(watcher.seen).not.toContain('never');
      expect(watcher.seen.split('you said alpha')).toHaveLength(2);
      expect(log ?? watcher.seen).toContain(watcher.seen);
    }
    expect(watchers[2]?.seen).toContain(READY);
    for (const { stream } of [one, two, three]) stream.destroy();
  });

  test('a watcher that does not read holds up nobody', { timeout: 300_000 }, async () => {
    const [stuck, reader] = [await console({ historyBytes: 0 }), await console({ historyBytes: 0 })];
    stuck.stream.pause();
    const watcher = watching(reader.stream);
    const script = 'head -c 300000 /dev/zero | tr "\\0" y >/dev/ttyS0; echo; echo all is out >/dev/ttyS0';
    expect(await exec(script, '--limit', '150s')).toMatchObject({ code: 0 });
    await watcher.shows('all is out');
    expect(watcher.seen.replaceAll(/[^y]/g, '')).toHaveLength(300_000);
    const late = watching(stuck.stream.resume());
    await late.shows('all is out');
    expect(late.seen).toBe(watcher.seen);
    stuck.stream.destroy();
    reader.stream.destroy();
  });

  test('without a terminal it takes its input and ends in silence', async () => {
    const { code, stdout, stderr } = await fleet.cli(['console', 'web', '--history', '0', '--idle-timeout', '3s'], 'gamma\n');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain('you said gamma');
  });

  test('logs are read and followed over a restart, and the console ends with the VM', { timeout: 120_000 }, async () => {
    const before = (await fleet.cli(['logs', 'web', '--tail', 'all'])).stdout;
    expect(before).toContain(READY);
    expect((await fleet.cli(['logs', 'web', '-n', '1'])).stdout).toBe(
      before.slice(before.lastIndexOf('\n', before.length - 2) + 1),
    );
    expect((await fleet.cli(['logs', 'web', '--source', 'qemu'])).code).toBe(0);

    const followed = await fleet.hub.open('vm.logs', { vm: 'web', follow: true });
    expect(followed.opened.historyBytes).toBeGreaterThan(0);
    const log = watching(followed.stream);
    const joined = await console();
    const ended = once(joined.stream.resume(), 'end');
    await fleet.hub.call('vm.stop', { vm: 'web' });
    await ended;
    joined.stream.destroy();
    await expect(console()).rejects.toMatchObject({ code: 'WRONG_STATE' });
    const readies = log.seen.split(READY).length;
    const ready = waitForEvent(fleet.hub, ({ type, vm, data }) => vm === 'web' && type === 'vm.ready' && data.generation === 2);
    await fleet.hub.call('vm.start', { vm: 'web' });
    await ready;
    while (log.seen.split(READY).length === readies) await once(followed.stream, 'seen');
    const over = once(followed.stream, 'end');
    await fleet.hub.call('vm.delete', { vm: 'web', force: true });
    await over;
    followed.stream.destroy();
  });
});
