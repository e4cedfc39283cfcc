/** What webhooks answer, and what becomes of a rollout by it: a real HTTP server, a real hub, real agents whose VMs are played. */
import { createServer, type ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { askWebhook } from '../../hub/rollout/webhook.ts';
import { becomes, startPlayedFleet } from '../support/played-fleet.ts';

type Answer = (response: ServerResponse) => void;

interface Server extends AsyncDisposable {
  readonly url: string;
  /** Bodies that were sent, in order. */
  readonly asked: string[];
  /** Paths that were asked for. */
  readonly paths: (string | undefined)[];
  answer: Answer;
  /** Resolves once a connection was closed before its answer had ended. */
  readonly left: Promise<void>;
}

const says =
  (body: string, status = 200): Answer =>
  (response) =>
    void response.writeHead(status).end(body);
const NEVER: Answer = () => {};

async function startServer(answer: Answer): Promise<Server> {
  const left = Promise.withResolvers<void>();
  const server = createServer((request, response) => {
    response.once('close', () => {
      if (!response.writableFinished) left.resolve();
    });
    made.paths.push(request.url);
    void text(request).then((body) => {
      made.asked.push(body);
      made.answer(response);
    });
  });
  const listening = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', listening.resolve);
  await listening.promise;
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const made: Server = {
    url: `http://127.0.0.1:${port}/verdict`,
    asked: [],
    paths: [],
    answer,
    left: left.promise,
    [Symbol.asyncDispose]: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
  return made;
}

const ask = (url: string, timeoutMs = 30_000) =>
  askWebhook(url, { rollout: 'r1' }, { timeoutMs, signal: new AbortController().signal });

describe('a webhook', () => {
  it.each([
    ['nothing', says(''), 'success', ''],
    ['success', says('{"verdict":"success","reason":"all well"}'), 'success', ''],
    ['failure and why', says('{"verdict":"failure","reason":"5 % errors"}'), 'failure', 'says failure: 5 % errors'],
    ['inconclusive', says('{"verdict":"inconclusive"}'), 'inconclusive', 'says inconclusive'],
    ['a verdict with another status', says('{"verdict":"success"}', 201), 'inconclusive', 'status 201'],
    ['a fault of its own', says('{"verdict":"success"}', 500), 'inconclusive', 'status 500'],
    ['what is no JSON', says('<html>fine</html>'), 'inconclusive', 'neither success, failure nor inconclusive'],
    ['an array', says('["success"]'), 'inconclusive', 'neither success'],
    ['null', says('null'), 'inconclusive', 'neither success'],
    ['another word', says('{"verdict":"SUCCESS"}'), 'inconclusive', 'neither success'],
    ['a verdict that is no text', says('{"verdict":["success"]}'), 'inconclusive', 'neither success'],
    ['what it inherits', says('{"__proto__":{"verdict":"success"}}'), 'inconclusive', 'neither success'],
    ['JSON that breaks off', says('{"verdict":"success"'), 'inconclusive', 'neither success'],
    ['a line that breaks', (response) => void response.destroy(), 'inconclusive', 'could not be asked: '],
  ] satisfies [string, Answer, string, string][])('that answers with %s', async (_what, answer, expected, detail) => {
    await using server = await startServer(answer);
    const observed = await ask(server.url);
    expect(observed).toEqual({ answer: expected, detail: expect.stringContaining(detail) });
    expect(server.asked).toEqual(['{"rollout":"r1"}']);
  });

  it('is told how long it may take, and let go of then', async () => {
    await using server = await startServer(NEVER);
    expect(await ask(server.url, 100)).toEqual({
      answer: 'inconclusive',
      detail: `${server.url} gave no answer within 100 ms`,
    });
    await server.left;
  });

  it('has its time for the whole answer, not for its beginning', async () => {
    await using server = await startServer((response) => void response.writeHead(200).write('{"verdict":'));
    expect((await ask(server.url, 200)).detail).toContain('within 200 ms');
  });

  it('that answers without end is read no further than a verdict is long', async () => {
    await using server = await startServer((response) => {
      const more = (): void => {
        while (!response.destroyed && response.write('x'.repeat(16_384)));
      };
      response.writeHead(200).on('drain', more);
      more();
    });
    expect((await ask(server.url)).detail).toContain('more than 65536 bytes');
    await server.left;
  });

  it('that leads elsewhere is not followed', async () => {
    await using server = await startServer((response) => void response.writeHead(307, { location: '/elsewhere' }).end());
    expect(await ask(server.url)).toEqual({ answer: 'inconclusive', detail: expect.stringContaining('status 307') });
    expect(server.paths).toEqual(['/verdict']);
  });

  it('that nobody serves is inconclusive, and its token is not told', async () => {
    const server = await startServer(says(''));
    await server[Symbol.asyncDispose]();
    const { answer, detail } = await ask(`${server.url}?token=hidden`);
    expect([answer, detail]).toEqual(['inconclusive', expect.stringMatching(/\/verdict could not be asked: .*ECONNREFUSED/)]);
    expect(detail).not.toContain('hidden');
  });

  it('has its words made one line of a length that a journal takes', async () => {
    await using server = await startServer(says(JSON.stringify({ verdict: 'failure', reason: `a\n\t${'b'.repeat(9000)}` })));
    const { detail } = await ask(server.url);
    expect(detail).toMatch(/says failure: a b+$/);
    expect(detail.length).toBeLessThan(700);
  });
});

describe('a gate', () => {
  const FREE = { selector: {}, steps: [{ kind: 'vm' }], budget: { maxUnavailable: '100%', perZone: '100%' } };

  it('that cannot be told pauses, is asked again when a person resumes, and is counted', async () => {
    await using server = await startServer(NEVER);
    await using fleet = await startPlayedFleet(['a1', 'a2']);
    const gate = {
      checks: [{ kind: 'webhook', url: server.url }],
      timeoutMs: 1_000,
      intervalMs: 100,
      deadlineMs: 100,
      onFailure: 'rollback',
    };
    await fleet.call('rollout.start', { rollout: 'r1', spec: { ...FREE, waves: [{ hosts: 1, gate }, { hosts: '100%' }] } });
    await becomes(fleet, 'r1', 'paused');
    const { paused } = await fleet.call('rollout.get', { rollout: 'r1' });
    expect(paused).toEqual({ by: 'gate', reason: expect.stringContaining('the gate of wave 0 cannot be told') });
    expect(JSON.parse(server.asked[0] ?? '')).toMatchObject({ rollout: 'r1', wave: 0, hosts: 2, phases: { done: 1 } });
    const { changed, control } = JSON.parse(server.asked[0] ?? '');
    expect([changed.length, control.length, new Set([...changed, ...control])]).toEqual([1, 1, new Set(['a1', 'a2'])]);

    server.answer = says('{"verdict":"success"}');
    await fleet.call('rollout.resume', { rollout: 'r1' });
    await becomes(fleet, 'r1', 'completed');
    const metrics = await (await fetch(`${fleet.hub.url}/metrics`)).text();
    expect(metrics).toMatch(/fairlead_hub_rollout_checks_total\{of="gate",answer="inconclusive"\} [1-9]/);
    expect(metrics).toContain('fairlead_hub_rollout_checks_total{of="gate",answer="success"} 1');
    expect(metrics).toContain('fairlead_hub_rollout_hosts_total{outcome="done",class=""} 2');
    expect(metrics).toContain('fairlead_hub_rollouts_ended_total{outcome="completed"} 1');
    expect(metrics).toContain('fairlead_hub_rollout_order_duration_seconds_count{action="resume"} 1');
    expect(metrics).toContain('fairlead_hub_rollouts{status="paused"} 0');
    expect(metrics).toContain('fairlead_hub_rollout_hosts_in_flight 0');
    expect(metrics).not.toMatch(/fairlead_hub_rollout.*(a1|r1)/);
  });

  it('of a host fails the host once its webhook says so for as often as was said, and all is taken back', async () => {
    await using server = await startServer(says('{"verdict":"failure","reason":"it drops packets"}'));
    await using fleet = await startPlayedFleet(['a1']);
    const health = { checks: [{ kind: 'webhook', url: server.url }], intervalMs: 100, deadlineMs: 300 };
    const spec = { ...FREE, health, thresholds: [{ max: 0, failures: 'unhealthy', action: 'rollback' }] };
    await fleet.call('rollout.start', { rollout: 'r1', spec });
    await becomes(fleet, 'r1', 'rolled-back');
    const { events } = await fleet.call('rollout.events', { rollout: 'r1' });
    expect(JSON.stringify(events)).toContain('it drops packets');
    expect(server.asked[0]).toBe('{"rollout":"r1","host":"a1"}');
    const metrics = await (await fetch(`${fleet.hub.url}/metrics`)).text();
    expect(metrics).toContain('fairlead_hub_rollout_hosts_total{outcome="failed",class="unhealthy"} 1');
    expect(metrics).toContain('fairlead_hub_rollout_hosts_total{outcome="restored",class=""} 1');
  });
});
