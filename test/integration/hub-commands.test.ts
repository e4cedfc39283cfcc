/** Command ids on their way from an operator through the hub to a host, and the records on their way back. */
import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { timeOfCommandId } from '../../shared/command-id.ts';
import { FairleadError } from '../../shared/errors.ts';
import type { RequestContext } from '../../shared/jsonrpc/types.ts';
import type { Operation } from '../../shared/protocol/methods-operation.ts';
import { fakeVmInfo } from '../support/fake-vms.ts';
import { addTestHost, connectTestOperator } from '../support/test-agent.ts';
import { startTestHub, type TestHub } from '../support/test-hub.ts';

const ENTRY = fileURLToPath(new URL('../../bin/fairlead.ts', import.meta.url));

const OPERATION: Operation = {
  id: 'c1',
  method: 'vm.stop',
  host: 'h1',
  vm: 'web',
  actor: 'token-7',
  state: 'unknown',
  acceptedAt: '2026-01-01T00:00:00.000Z',
  endedAt: '2026-01-01T00:00:01.000Z',
  code: 'OUTCOME_UNKNOWN',
  paramsDigest: '0'.repeat(64),
  params: { vm: 'web' },
  before: { uuid: 'u', generation: 3, state: 'running' },
  error: { code: 'OUTCOME_UNKNOWN', message: 'who knows' },
  reconciled: { outcome: 'unknown', reason: 'nothing shows it', at: '2026-01-01T00:00:01.000Z' },
  attempts: 1,
};

/** A host that stops every VM, and keeps what came with the calls. */
async function hostOf(hub: TestHub, name: string, keeps: readonly Operation[] = []) {
  const metas: RequestContext['meta'][] = [];
  const host = await addTestHost(hub, name, {
    methods: {
      'vm.stop': (_params, { meta }) => {
        metas.push(meta);
        return { vm: fakeVmInfo('web', 'stopped'), endedBy: 'quit' };
      },
      'vm.get': (_params, { meta }) => {
        metas.push(meta);
        return fakeVmInfo('web');
      },
      'op.list': () => ({ operations: keeps.map(({ id, method, state, acceptedAt }) => ({ id, method, state, acceptedAt })) }),
      'op.get': ({ id }) => {
        const found = keeps.find((one) => one.id === id);
        if (found === undefined) throw new FairleadError('NOT_FOUND', 'no such command');
        return { ...found };
      },
    },
  });
  return { metas, [Symbol.asyncDispose]: () => host[Symbol.asyncDispose]() };
}

async function cli(hub: TestHub, ...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [ENTRY, '--hub', hub.url, '--token', hub.adminToken, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exited = new Promise<number | null>((resolve) => child.once('close', resolve));
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { code: await exited, stdout, stderr };
}

describe('a command through the hub', () => {
  it('keeps the id that its caller gave, and says who that is, whatever they say', async () => {
    await using hub = await startTestHub();
    await using host = await hostOf(hub, 'h1');
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    await operator.line.peer.call('vm.stop', { vm: 'web' }, { meta: { commandId: 'mine', actor: 'somebody else' } });
    expect(host.metas).toEqual([{ commandId: 'mine', actor: expect.not.stringContaining('somebody') }]);
  });

  it('gets an id where its caller gave none, and a question gets none', async () => {
    await using hub = await startTestHub();
    await using host = await hostOf(hub, 'h1');
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    await operator.line.peer.call('vm.stop', { vm: 'web' });
    await operator.line.peer.call('vm.get', { vm: 'web' });
    const [stop, get] = host.metas;
    // SAFETY: the hub's own; another type fails here.
    expect(timeOfCommandId(stop?.['commandId'] as string)).toBeGreaterThan(0);
    expect(get).toEqual({});
  });

  it('with a malformed id does not reach the host', async () => {
    await using hub = await startTestHub();
    await using host = await hostOf(hub, 'h1');
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    const call = operator.line.peer.call('vm.stop', { vm: 'web' }, { meta: { commandId: 'a b' } });
    await expect(call).rejects.toMatchObject({ code: 'INVALID_PARAMS', message: expect.stringContaining('commandId') });
    expect(host.metas).toEqual([]);
  });

  it('tells its id when the host drops away', async () => {
    await using hub = await startTestHub();
    const begun = Promise.withResolvers<void>();
    const host = await addTestHost(hub, 'h1', {
      methods: {
        'vm.stop': () => {
          begun.resolve();
          return new Promise(() => {});
        },
      },
    });
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    const call = operator.line.peer.call('vm.stop', { vm: 'web' }, { meta: { commandId: 'mine' } });
    call.catch(() => {});
    await begun.promise;
    await host[Symbol.asyncDispose]();
    await expect(call).rejects.toMatchObject({ code: 'INTERRUPTED', details: { commandId: 'mine' } });
  });
});

describe('the command line', () => {
  it('sends the id that it is given', async () => {
    await using hub = await startTestHub();
    await using host = await hostOf(hub, 'h1');
    expect(await cli(hub, 'vm', 'stop', 'web', '--command-id', 'mine')).toMatchObject({ code: 0 });
    expect(host.metas).toMatchObject([{ commandId: 'mine' }]);
  });

  it('finds a command on whichever host keeps it, and shows what became of it', async () => {
    await using hub = await startTestHub();
    await using _one = await hostOf(hub, 'h1', [OPERATION]);
    await using _other = await hostOf(hub, 'h2');
    const shown = await cli(hub, 'op', 'show', 'c1');
    expect(shown.stdout).toMatch(/^after a crash +unknown: nothing shows it$/m);
    expect(shown.stdout).toMatch(/^vm before +running, generation 3$/m);
    expect(JSON.parse((await cli(hub, 'op', 'show', 'c1', '-o', 'json')).stdout)).toEqual(OPERATION);
    expect((await cli(hub, 'op', 'ls')).stdout).toMatch(/^c1 +h1 +vm\.stop +- +unknown /m);
    expect(await cli(hub, 'op', 'show', 'c9')).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('none of 2 connected hosts'),
    });
  });
});
