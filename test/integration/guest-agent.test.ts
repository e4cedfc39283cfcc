/** The conversation with a guest agent that does not keep to what is expected of it. */
import { describe, expect, it } from 'vitest';
import { GuestAgentClient } from '../../agent/vm/guest-agent/client.ts';
import { type ExecRequest, execInGuest } from '../../agent/vm/guest-agent/exec.ts';
import { FairleadError } from '../../shared/errors.ts';
import { type FakeGuestPeer, fakeGuestAgent } from '../support/fake-guest-agent.ts';

const never = new AbortController().signal;
const within = (remainingMs: number) => ({ signal: never, remainingMs });
/** For what is expected to be answered. */
const soon = within(20_000);
const code = (code: string) => expect.objectContaining({ code });

describe('a guest agent', () => {
  it('is synchronised with before anything is asked of it', async () => {
    const lines: string[] = [];
    const { options } = fakeGuestAgent(async (agent) => {
      const line = await agent.receiveLine();
      lines.push(line);
      // What an earlier peer asked for is answered first.
      agent.say({ return: 'stale' });
      agent.write(Buffer.from([0xff]));
      agent.say({ return: JSON.parse(line.slice(1)).arguments.id });
      lines.push(await agent.receiveLine());
      agent.say({ return: {} });
    });
    await new GuestAgentClient(options).run('guest-ping', {}, soon);
    expect(lines).toEqual([
      expect.stringMatching(/^\xff\{"execute":"guest-sync-delimited","arguments":\{"id":\d+\}\}$/),
      '{"execute":"guest-ping","arguments":{}}',
    ]);
  });

  it('that starts late and lost the first sync is asked again', async () => {
    const { options, connections } = fakeGuestAgent(async (agent) => {
      await agent.receive();
      await agent.sync();
      await agent.serve({ 'guest-ping': () => ({}) });
    });
    await new GuestAgentClient(options).run('guest-ping', {}, soon);
    expect(connections()).toBe(1);
  });

  it('answers to another sync, or without its mark, are not taken for ours', async () => {
    const { options } = fakeGuestAgent(async (agent) => {
      const { arguments: args } = await agent.receive();
      agent.say({ return: args['id'] });
      agent.write(Buffer.from([0xff]));
      agent.say({ return: Number(args['id']) + 1 });
      await agent.sync();
      await agent.serve({ 'guest-ping': () => ({}), 'guest-fsfreeze-status': () => 'thawed' });
    });
    const client = new GuestAgentClient(options);
    expect((await client.run('guest-fsfreeze-status', {}, soon)).value).toBe('thawed');
  });

  it('that never answers is told as unreachable, with what to do', async () => {
    const { options } = fakeGuestAgent(async () => {});
    await expect(new GuestAgentClient(options).run('guest-ping', {}, within(50))).rejects.toThrow(
      /no guest agent of VM web answers over a test: is qemu-guest-agent installed/,
    );
  });

  it('that cannot be connected to is tried until the time is over', async () => {
    let tries = 0;
    const client = new GuestAgentClient({
      ...fakeGuestAgent(async () => {}).options,
      connect: async () => {
        tries += 1;
        throw new FairleadError('GUEST_REFUSED', 'nothing listens');
      },
    });
    await expect(client.run('guest-ping', {}, within(700))).rejects.toEqual(code('GUEST_UNREACHABLE'));
    expect(tries).toBeGreaterThan(1);
  });

  it("answers a command too late: the answer is nobody's, and the next command gets its own", async () => {
    let late: (() => void) | undefined;
    const { options, connections } = fakeGuestAgent(async (agent) => {
      await agent.sync();
      await agent.receive();
      late = () => agent.say({ return: 'frozen' });
      await agent.sync();
      await agent.serve({ 'guest-fsfreeze-status': () => 'thawed' });
    });
    const client = new GuestAgentClient(options);
    const first = client.run('guest-fsfreeze-status', {}, soon, 50);
    await expect(first).rejects.toEqual(code('GUEST_UNREACHABLE'));
    late?.();
    expect((await client.run('guest-fsfreeze-status', {}, soon)).value).toBe('thawed');
    expect(connections()).toBe(1);
  });

  it('is asked one thing at a time', async () => {
    let open = 0;
    let most = 0;
    const { options } = fakeGuestAgent(async (agent) => {
      await agent.sync();
      for (;;) {
        await agent.receive();
        most = Math.max(most, ++open);
        await new Promise(setImmediate);
        open -= 1;
        agent.say({ return: {} });
      }
    });
    const client = new GuestAgentClient(options);
    await Promise.all(Array.from({ length: 8 }, () => client.run('guest-ping', {}, soon)));
    expect(most).toBe(1);
  });

  it.each([
    ['garbage', (agent: FakeGuestPeer) => agent.write('nonsense\n'), 'PROTOCOL_ERROR'],
    ['JSON that is no answer', (agent: FakeGuestPeer) => agent.write('[]\n'), 'PROTOCOL_ERROR'],
    ['a result of another kind', (agent: FakeGuestPeer) => agent.say({ return: 7 }), 'PROTOCOL_ERROR'],
    ['a line without end', (agent: FakeGuestPeer) => agent.write(`[${'1,'.repeat(400_000)}\n`), 'PROTOCOL_ERROR'],
    ['a sentinel', (agent: FakeGuestPeer) => agent.write(Buffer.from([0xff])), 'PROTOCOL_ERROR'],
    ['half a line, and hangs up', (agent: FakeGuestPeer) => agent.stream.end('{"retu'), 'INTERRUPTED'],
    ['half a line, and nothing more', (agent: FakeGuestPeer) => agent.write('{"retu'), 'GUEST_UNREACHABLE'],
    ['no', (agent: FakeGuestPeer) => agent.say({ error: { class: 'GenericError', desc: 'disk on fire' } }), 'GUEST_FAILED'],
    ['not offered', (agent: FakeGuestPeer) => agent.say({ error: { class: 'CommandNotFound', desc: 'x' } }), 'UNSUPPORTED'],
    [
      'frozen',
      (agent: FakeGuestPeer) =>
        agent.say({ error: { class: 'CommandNotFound', desc: 'Command has been disabled: the agent is in frozen state' } }),
      'WRONG_STATE',
    ],
  ])('that answers %s is told of, and spoken with anew afterwards', async (_what, misbehave, expected) => {
    let isFirst = true;
    const { options } = fakeGuestAgent(async (agent) => {
      for (;;) {
        const { execute, arguments: args } = await agent.receive();
        if (execute === 'guest-sync-delimited') {
          agent.write(Buffer.from([0xff]));
          agent.say({ return: args['id'] });
        } else if (isFirst) {
          isFirst = false;
          misbehave(agent);
        } else agent.say({ return: {} });
      }
    });
    const client = new GuestAgentClient(options);
    const first = client.run('guest-ping', {}, soon, expected === 'GUEST_UNREACHABLE' ? 50 : undefined);
    await expect(first).rejects.toEqual(code(expected));
    await client.run('guest-ping', {}, soon);
  });

  it('that talks without being asked is not believed', async () => {
    const { options } = fakeGuestAgent(async (agent) => {
      await agent.sync();
      await agent.receive();
      agent.say({ return: {} }, { return: 'frozen' });
      await agent.sync();
      await agent.serve({ 'guest-fsfreeze-status': () => 'thawed' });
    });
    const client = new GuestAgentClient(options);
    await client.run('guest-ping', {}, soon);
    expect((await client.run('guest-fsfreeze-status', {}, soon)).value).toBe('thawed');
  });

  it('settles every call when its VM ends, and when its caller gives up', async () => {
    const { options, end } = fakeGuestAgent(async (agent) => agent.sync());
    const client = new GuestAgentClient(options);
    const caller = new AbortController();
    const given = client.run('guest-ping', {}, { ...soon, signal: caller.signal });
    const waiting = client.run('guest-ping', {}, soon);
    const answers = Promise.allSettled([given, waiting]);
    caller.abort(new FairleadError('CANCELLED', 'not wanted'));
    await expect(given).rejects.toEqual(code('CANCELLED'));
    end(new FairleadError('WRONG_STATE', 'gone'));
    await answers;
    await expect(waiting).rejects.toEqual(code('WRONG_STATE'));
  });

  it('says nothing when it takes a shutdown, and why when it does not', async () => {
    const { options } = fakeGuestAgent(async (agent) => {
      await agent.sync();
      await agent.receive();
      await agent.sync();
      await agent.receive();
      agent.say({ error: { class: 'GenericError', desc: 'child process has failed to shutdown' } });
      await agent.sync();
      await agent.receive();
      agent.stream.end();
    });
    const client = new GuestAgentClient(options);
    const shutDown = (quietMs: number) => client.tell('guest-shutdown', { mode: 'powerdown' }, soon, quietMs);
    await shutDown(20);
    await expect(shutDown(20_000)).rejects.toEqual(code('GUEST_FAILED'));
    await shutDown(20_000);
  });
});

const REQUEST: ExecRequest = {
  path: 'true',
  args: [],
  input: '',
  encoding: 'utf8',
  timeoutMs: 20_000,
  maxOutputBytes: 64 * 1024,
};

async function exec(
  answers: Parameters<FakeGuestPeer['serve']>[0],
  request: Partial<ExecRequest> = {},
  signal = never,
  answerTimeoutMs = 20_000,
) {
  const { options } = fakeGuestAgent(async (agent) => {
    await agent.sync();
    await agent.serve(answers);
  });
  return execInGuest(new GuestAgentClient(options), { ...REQUEST, ...request }, { vm: 'web', signal, answerTimeoutMs });
}

describe('a program in the guest', () => {
  it('ends with its code, and its output comes whole', async () => {
    let asked = 0;
    const result = await exec({
      'guest-exec': () => ({ pid: 7 }),
      'guest-exec-status': () => (++asked < 4 ? { exited: false } : { exited: true, exitcode: 3, 'out-data': 'aGk=' }),
    });
    expect(result).toMatchObject({ ended: { by: 'exit', code: 3 }, stdout: 'hi', stderr: '', stdoutCutBytes: 0 });
  });

  it('is given its arguments, environment and input as they were written', async () => {
    const seen: unknown[] = [];
    const answers = {
      'guest-exec': (args: object) => (seen.push(args), { pid: 7 }),
      'guest-exec-status': () => ({ exited: true, exitcode: 0 }),
    };
    await exec(answers, { path: 'a b', args: ['"', '\n', '$x'], env: { A: '1=2' }, input: 'é' });
    await exec(answers, { input: '//8=', encoding: 'base64' });
    expect(seen).toEqual([
      { path: 'a b', arg: ['"', '\n', '$x'], env: ['A=1=2'], 'input-data': 'w6k=', 'capture-output': true },
      { path: 'true', arg: [], 'input-data': '//8=', 'capture-output': true },
    ]);
    await expect(exec(answers, { input: 'no base64!', encoding: 'base64' })).rejects.toEqual(code('INVALID_PARAMS'));
  });

  it('with 16 MiB of output costs no more than what is kept of it, and the rest is counted', async () => {
    const megabytes = Buffer.alloc(16 * 1024 ** 2, 'x').toString('base64');
    const result = await exec({
      'guest-exec': () => ({ pid: 7 }),
      'guest-exec-status': () => ({ exited: true, signal: 9, 'out-data': megabytes, 'err-data': 'b29wcw==' }),
    });
    expect(result).toMatchObject({ ended: { by: 'signal', signal: 9 }, stderr: 'oops', stderrCutBytes: 0 });
    expect(result.stdout.length + result.stdoutCutBytes).toBe(16 * 1024 ** 2);
    expect(result.stdout.length).toBe(64 * 1024);
  });

  it('that does not end in time is killed, and what it wrote until then is told', async () => {
    const started: unknown[] = [];
    let isKilled = false;
    const result = await exec(
      {
        'guest-exec': (args) => {
          started.push(args['arg']);
          isKilled = started.length > 1;
          return { pid: started.length };
        },
        'guest-exec-status': () => (isKilled ? { exited: true, signal: 9, 'out-data': 'aGk=' } : { exited: false }),
      },
      { timeoutMs: 30 },
    );
    expect(started[1]).toEqual(['-c', expect.stringContaining('kill -KILL'), 'sh', '1']);
    expect(result).toMatchObject({ ended: { by: 'timeout', killed: true }, stdout: 'hi' });
  });

  it('that cannot be killed is told as such', async () => {
    const result = await exec(
      { 'guest-exec': () => ({ pid: 1 }), 'guest-exec-status': () => ({ exited: false }) },
      { timeoutMs: 1 },
      never,
      1_000,
    );
    expect(result.ended).toEqual({ by: 'timeout', killed: false });
  });

  it('is killed when its caller gives up', async () => {
    const caller = new AbortController();
    const killed = Promise.withResolvers<unknown>();
    let count = 0;
    const running = exec(
      {
        'guest-exec': (args) => {
          if (++count === 2) killed.resolve(args['arg']);
          return { pid: count };
        },
        'guest-exec-status': () => (caller.abort(new FairleadError('CANCELLED', 'not wanted')), { exited: count > 1 }),
      },
      {},
      caller.signal,
    );
    await expect(running).rejects.toEqual(code('CANCELLED'));
    expect(await killed.promise).toContain('1');
  });

  it('of which a new agent knows nothing is told as lost', async () => {
    const { options } = fakeGuestAgent(async (agent) => {
      await agent.sync();
      await agent.receive();
      agent.say({ return: { pid: 5 } });
      await agent.receive();
      agent.say({ error: { class: 'GenericError', desc: "Invalid parameter 'pid'" } });
    });
    const running = execInGuest(new GuestAgentClient(options), REQUEST, { vm: 'web', signal: never, answerTimeoutMs: 20_000 });
    await expect(running).rejects.toThrow(/knows nothing of process 5 any more/);
  });
});
