/**
 * The line end to end, with nothing faked: operator, hub, agent, QEMU, and a real guest's vsock behind vhost-device-vsock.
 * What AF_VSOCK alone can do (half-close) is shown in test/rig/line.test.ts.
 */
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { echoThrough } from '../support/echo-storm.ts';
import { startFleet, type TestFleet, waitForEvent, whyNoGuest } from '../support/up.ts';

const ECHO_PORT = 7;
const RUN_PORT = 1024;
const CAT_PORT = 1234;
const NOBODY_PORT = 4321;
const STREAMS = 64;
const BYTES_A_STREAM = 1024 ** 2;

const reason = whyNoGuest();
if (reason !== undefined) console.log(`skipped: ${reason}`);

describe.skipIf(reason !== undefined)('a guest through hub and agent', () => {
  let fleet: TestFleet;
  beforeAll(async () => {
    fleet = await startFleet();
    await fleet.runReady('web');
  });
  afterAll(() => fleet?.[Symbol.asyncDispose]());

  it('runs a command over a stream and gives its output', async () => {
    const { stream, opened } = await fleet.hub.openStream({ vm: 'web', port: RUN_PORT });
    expect(opened).toMatchObject({ transport: 'vhost-user', halfClose: false, generation: 1 });
    stream.end('echo "$((6 * 7))"; uname -s\n');
    expect(await text(stream)).toBe('42\nLinux\n');
  });

  it(`carries ${STREAMS} streams at once, ${BYTES_A_STREAM} random bytes each way, and no byte changes`, async () => {
    const results = await Promise.all(
      Array.from({ length: STREAMS }, async () => {
        const { stream } = await fleet.hub.openStream({ vm: 'web', port: ECHO_PORT, connectTimeoutMs: 60_000 });
        return echoThrough(stream, BYTES_A_STREAM);
      }),
    );
    for (const result of results) expect(result).toMatchObject({ receivedBytes: BYTES_A_STREAM, receivedHash: result.sentHash });
  });

  it('says GUEST_REFUSED for a port where nobody listens, and stays usable', async () => {
    await expect(fleet.hub.openStream({ vm: 'web', port: NOBODY_PORT, connectTimeoutMs: 3000 })).rejects.toMatchObject({
      code: expect.stringMatching(/^GUEST_(REFUSED|UNREACHABLE)$/),
      message: expect.stringContaining(String(NOBODY_PORT)),
    });
    expect(await fleet.hub.call('vm.get', { vm: 'web' })).toMatchObject({ state: 'running', ready: true });
  });

  it('fairlead connect waits out a transport without half-close, and says so', async () => {
    const result = await fleet.cli(['connect', 'web', String(CAT_PORT), '--idle-timeout', '3s'], 'hi\n');
    expect(result).toMatchObject({
      code: 0,
      stdout: 'hi\n',
      stderr: expect.stringContaining('cannot close one direction alone'),
    });
  });

  it('fairlead connect ends when the guest closes', async () => {
    const result = await fleet.cli(['connect', 'web', String(RUN_PORT), '--idle-timeout', '60s'], 'echo done\n');
    expect(result).toMatchObject({ code: 0, stdout: 'done\n' });
  });

  it('resets open streams when the VM is reset, and the guest is reachable again after it', async () => {
    const { stream } = await fleet.hub.openStream({ vm: 'web', port: ECHO_PORT });
    const failed = new Promise((resolve) => stream.once('error', resolve));
    stream.resume();
    const readyAgain = waitForEvent(
      fleet.hub,
      (() => {
        let wasReset = false;
        return (event) => {
          if (event.type === 'vm.reset') wasReset = true;
          return wasReset && event.type === 'vm.ready';
        };
      })(),
    );
    await fleet.hub.call('vm.reset', { vm: 'web' });
    expect(await failed).toMatchObject({ code: 'STREAM_RESET' });
    await readyAgain;
    const again = await fleet.hub.openStream({ vm: 'web', port: RUN_PORT });
    again.stream.end('echo back\n');
    expect(await text(again.stream)).toBe('back\n');
  });

  it('tells a kernel panic as a state of its own, from which a reset brings the guest back', async () => {
    const panicked = waitForEvent(fleet.hub, (event) => event.type === 'vm.panicked');
    const { stream } = await fleet.hub.openStream({ vm: 'web', port: RUN_PORT });
    stream.on('error', () => {}); // the guest takes its end with it
    stream.end('echo c >/proc/sysrq-trigger\n');
    expect(await panicked).toMatchObject({ vm: 'web', state: 'panicked' });
    const readyAgain = waitForEvent(
      fleet.hub,
      (
        (seq) => (event) =>
          event.type === 'vm.ready' && event.seq > seq
      )((await panicked).seq),
    );
    await fleet.hub.call('vm.reset', { vm: 'web' });
    await readyAgain;
    expect(await fleet.hub.call('vm.get', { vm: 'web' })).toMatchObject({ state: 'running', ready: true });
  });

  it('stops by the power button', async () => {
    const stopped = await fleet.hub.call('vm.stop', { vm: 'web' });
    expect(stopped).toMatchObject({ endedBy: 'guest', vm: { state: 'stopped', exit: { reason: 'guest-shutdown' } } });
  });

  it('whose QEMU is killed ends its streams with an error, never as if the guest had', async () => {
    await fleet.hub.call('vm.start', { vm: 'web' });
    const streams = await Promise.all(
      Array.from({ length: 8 }, () => fleet.hub.openStream({ vm: 'web', port: ECHO_PORT, connectTimeoutMs: 60_000 })),
    );
    const ends = streams.map(({ stream }) => text(stream));
    const { pid } = await fleet.hub.call('vm.get', { vm: 'web' });
    process.kill(pid ?? 0, 'SIGKILL');
    const outcomes = await Promise.allSettled(ends);
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ reason: { code: 'STREAM_RESET', details: { reset: 'NO_DEVICE' } } });
    }
  });
});

describe.skipIf(reason !== undefined)('bad input is told clearly and leaves nothing behind', () => {
  let fleet: TestFleet;
  beforeAll(async () => {
    fleet = await startFleet();
  });
  afterAll(() => fleet?.[Symbol.asyncDispose]());

  const cases: readonly { what: string; args: string[]; code: number; says: RegExp }[] = [
    {
      what: 'a kernel that does not exist',
      args: ['vm', 'run', 'x', '--kernel', '/no/such/kernel'],
      code: 3,
      says: /boot\.kernel.*\/no\/such\/kernel/,
    },
    {
      what: 'an unknown field',
      args: ['rpc', 'demo-host', 'vm.run', '{"spec":{"name":"x","cpuz":{}}}'],
      code: 2,
      says: /spec\.cpuz/,
    },
    {
      what: 'a wrong type at depth',
      args: ['rpc', 'demo-host', 'vm.run', '{"spec":{"name":"x","memory":{"bytes":"lots"}}}'],
      code: 2,
      says: /spec\.memory\.bytes/,
    },
    { what: 'a name that is none', args: ['vm', 'run', 'Not_A_Name', '--kernel', '/k'], code: 2, says: /name/ },
    { what: 'an unknown method', args: ['rpc', '-', 'vm.explode', '{}'], code: 1, says: /vm\.explode/ },
    { what: 'params that are no JSON', args: ['rpc', '-', 'host.list', '{'], code: 2, says: /no JSON/ },
    { what: 'a VM that is not there', args: ['vm', 'get', 'nobody'], code: 3, says: /nobody/ },
    { what: 'a host that is not there', args: ['host', 'show', 'nowhere'], code: 3, says: /nowhere/ },
    { what: 'a wrong token', args: ['--token', 'flo_wrong', 'host', 'ls'], code: 1, says: /UNAUTHENTICATED/ },
    {
      what: 'a hub that is not there',
      args: ['--hub', 'ws://127.0.0.1:9', '--token', 'x', 'host', 'ls'],
      code: 5,
      says: /CONNECT_FAILED/,
    },
    { what: 'an unknown verb', args: ['explode'], code: 2, says: /unknown command/ },
    { what: 'a bad port', args: ['connect', 'web', 'seven'], code: 2, says: /port.*no vsock port/ },
  ];
  it.each(cases)('$what', async ({ args, code, says }) => {
    const result = await fleet.cli(args);
    expect(result.stderr).toMatch(says);
    expect(result).toMatchObject({ code, stdout: '' });
  });

  it('two VMs of one name: the second is refused and the first is untouched', async () => {
    const made = await fleet.cli(['vm', 'create', 'twin']);
    expect(made).toMatchObject({ code: 0, stderr: '' });
    const second = await fleet.cli(['vm', 'create', 'twin', '--memory', '64MiB']);
    expect(second).toMatchObject({ code: 4, stderr: expect.stringContaining('twin') });
    expect(await fleet.hub.call('vm.get', { vm: 'twin' })).toMatchObject({ spec: { memory: { bytes: 256 * 1024 ** 2 } } });
  });

  it('a QEMU that exits at once: its own words are in the error, and the VM is gone', async () => {
    const result = await fleet.cli([
      'rpc',
      'demo-host',
      'vm.run',
      JSON.stringify({ spec: { name: 'dud', cpus: { count: 1, model: 'no-such-cpu' }, boot: { kernel: process.execPath } } }),
    ]);
    expect(result).toMatchObject({ code: 1, stderr: expect.stringContaining('no-such-cpu') });
    expect(await fleet.cli(['vm', 'get', 'dud'])).toMatchObject({ code: 3 });
  });

  it('nothing of it is left: the VMs are those that were made', async () => {
    const { stdout } = await fleet.cli(['vm', 'ls', '-o', 'name']);
    expect(stdout).toBe('twin\n');
  });
});
