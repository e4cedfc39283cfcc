/** Commands from the asking until it is known what came of them: hosts that are away, lines that break, hubs that are started anew. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { FairleadError, type JsonObject } from '../../shared/errors.ts';
import type { RequestContext } from '../../shared/jsonrpc/types.ts';
import type { HostKey } from '../../shared/node/host-key.ts';
import { fakeVmInfo } from '../support/fake-vms.ts';
import { addTestHost, connectTestAgent, connectTestOperator, type TestAgent } from '../support/test-agent.ts';
import { startTestHub, type TestHub } from '../support/test-hub.ts';

type StopHandler = (params: JsonObject, context: RequestContext) => unknown;

function textOf(value: unknown): string {
  if (typeof value !== 'string') throw new TypeError('not a text');
  return value;
}

async function isConnected(hub: TestHub): Promise<boolean> {
  return (await hub.post('host.get', { host: 'h1' })).body.result?.['connected'] === true;
}

const PATIENCE_MS = 30_000;

/** A host that counts what it did, and answers for its journal as the test says. */
class Host {
  readonly ran: string[] = [];
  readonly asked: string[] = [];
  stop: StopHandler = () => ({ vm: fakeVmInfo('web', 'stopped'), endedBy: 'quit' });
  /** What the journal says of a command; undefined: it never came. */
  journal: (id: string) => JsonObject | undefined = () => undefined;
  key: HostKey | undefined;
  #agent: TestAgent | undefined;

  async connect(hub: TestHub): Promise<void> {
    const methods = {
      'vm.list': () => ({ vms: [{ name: 'web' }] }),
      'vm.events': () => ({ epoch: 'e', events: [], missed: 0, lastSeq: 0 }),
      'vm.stop': (params: JsonObject, context: RequestContext) => {
        this.ran.push(textOf(context.meta['commandId']));
        return this.stop(params, context);
      },
      'vm.create': () => fakeVmInfo('new', 'created'),
      'op.get': ({ id }: JsonObject) => {
        this.asked.push(textOf(id));
        const found = this.journal(textOf(id));
        if (found === undefined) throw new FairleadError('NOT_FOUND', 'no such command');
        return found;
      },
    };
    if (this.key === undefined) {
      const added = await addTestHost(hub, 'h1', { methods });
      this.key = added.key;
      this.#agent = added;
    } else {
      this.#agent = await connectTestAgent({ url: hub.url, host: 'h1', key: this.key, methods });
    }
    await vi.waitUntil(() => isConnected(hub), PATIENCE_MS);
  }

  async drop(hub: TestHub): Promise<void> {
    await this.#agent?.[Symbol.asyncDispose]();
    await vi.waitUntil(async () => !(await isConnected(hub)), PATIENCE_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent?.[Symbol.asyncDispose]();
  }
}

const STOP = { method: 'vm.stop', params: { vm: 'web' }, host: 'h1' };
const never = () => new Promise<never>(() => {});

async function result(hub: TestHub, method: string, params: object): Promise<JsonObject> {
  const { body } = await hub.post(method, params);
  if (body.error !== undefined) throw new Error(`${String(body.error.data['code'])}: ${body.error.message}`);
  // SAFETY: it came out of JSON.parse.
  return body.result as JsonObject;
}

/** A hub with its data in a directory, that can be started anew on them. */
async function restartable() {
  const directory = await mkdtemp(join(tmpdir(), 'hub-commands-'));
  return { start: () => startTestHub({ dataDir: directory }), remove: () => rm(directory, { recursive: true }) };
}

describe('a command for a host that is away', () => {
  it('waits for it, runs once when it is back, and can be waited for', async () => {
    await using hub = await startTestHub();
    await using host = new Host();
    await host.connect(hub);
    await host.drop(hub);
    const submitted = await result(hub, 'command.submit', { ...STOP, id: 'c1' });
    expect(submitted).toMatchObject({ id: 'c1', state: 'queued', sends: 0, vm: 'web' });
    const waited = result(hub, 'command.wait', { id: 'c1' });
    await host.connect(hub);
    expect(await waited).toMatchObject({ state: 'done', sends: 1, result: { endedBy: 'quit' } });
    expect(host.ran).toEqual(['c1']);
    expect(host.asked).toEqual([]);
  });

  it.each([
    ['forward', 3_600_000],
    ['back', -3_600_000],
  ])('has the time that it was given, also when the clock of the hub is set %s by an hour', async (_, setMs) => {
    let nowMs = Date.now();
    await using hub = await startTestHub({}, { now: () => nowMs });
    await using host = new Host();
    const left: (number | undefined)[] = [];
    host.stop = (_params, context) => {
      left.push(context.remainingMs());
      return { vm: fakeVmInfo('web', 'stopped'), endedBy: 'quit' };
    };
    await host.connect(hub);
    await host.drop(hub);
    await result(hub, 'command.submit', { ...STOP, id: 'c1', timeoutMs: 60_000 });
    nowMs += setMs;
    await host.connect(hub);
    expect(await result(hub, 'command.wait', { id: 'c1' })).toMatchObject({ state: 'done' });
    expect(left).toHaveLength(1);
    expect(left[0]).toBeGreaterThan(1_000);
    expect(left[0]).toBeLessThanOrEqual(60_000);
  });

  it('fails at once where its caller does not want to wait, and leaves nothing behind', async () => {
    await using hub = await startTestHub();
    await using host = new Host();
    await host.connect(hub);
    await host.drop(hub);
    await expect(result(hub, 'command.submit', { ...STOP, whenOffline: 'fail' })).rejects.toThrow('HOST_UNREACHABLE');
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    await expect(operator.line.peer.call('vm.stop', { vm: 'web' })).rejects.toMatchObject({ code: 'HOST_UNREACHABLE' });
    expect(await result(hub, 'command.list', {})).toEqual({ commands: [] });
  });

  it('is answered to the caller who waits with it', async () => {
    await using hub = await startTestHub();
    await using host = new Host();
    await host.connect(hub);
    await host.drop(hub);
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    const call = operator.line.peer.call('vm.stop', { vm: 'web' }, { meta: { commandId: 'c1', whenOffline: 'queue' } });
    await expect.poll(async () => (await hub.post('command.get', { id: 'c1' })).body.result?.['state']).toBe('queued');
    await host.connect(hub);
    expect(await call).toMatchObject({ endedBy: 'quit' });
  });

  it('is never run once its time is over, or once it was cancelled, or its token revoked', async () => {
    await using hub = await startTestHub();
    await using host = new Host();
    await host.connect(hub);
    await host.drop(hub);
    const created = await result(hub, 'token.create', { kind: 'operator', role: 'operator' });
    await hub.post('command.submit', { ...STOP, id: 'revoked' }, textOf(created['token']));
    await result(hub, 'command.submit', { ...STOP, id: 'late', timeoutMs: 50 });
    await result(hub, 'command.submit', { ...STOP, id: 'cancelled' });
    // SAFETY: the contract's.
    await result(hub, 'token.revoke', { id: (created['record'] as JsonObject)['id'] });
    const codes = async (id: string) => (await result(hub, 'command.wait', { id }))['error'];
    expect(await result(hub, 'command.cancel', { id: 'cancelled' })).toMatchObject({ state: 'failed', sends: 0 });
    expect(await codes('late')).toMatchObject({ code: 'TIMEOUT', message: expect.stringContaining('was not run') });
    expect(await codes('revoked')).toMatchObject({ code: 'CANCELLED', message: expect.stringContaining('revoked') });
    await host.connect(hub);
    expect(await result(hub, 'command.submit', { ...STOP, id: 'last' }).then(() => codes('last'))).toBeUndefined();
    expect(host.ran).toEqual(['last']);
  });
});

describe('a command whose line broke', () => {
  async function broken(hub: TestHub, host: Host, meta: JsonObject) {
    const begun = Promise.withResolvers<void>();
    host.stop = () => {
      begun.resolve();
      return never();
    };
    await host.connect(hub);
    const operator = await connectTestOperator(hub.url, hub.adminToken);
    const call = operator.line.peer.call('vm.stop', { vm: 'web' }, { meta });
    call.catch(() => {});
    await begun.promise;
    await host.drop(hub);
    host.stop = () => ({ vm: fakeVmInfo('web', 'stopped'), endedBy: 'quit' });
    return { call, [Symbol.asyncDispose]: () => operator[Symbol.asyncDispose]() };
  }

  it('is asked after, and not sent again to a host that has done it', async () => {
    await using hub = await startTestHub();
    await using host = new Host();
    await using command = await broken(hub, host, { commandId: 'c1', whenOffline: 'queue' });
    host.journal = () => ({ state: 'done', result: { endedBy: 'guest' } });
    await host.connect(hub);
    expect(await command.call).toEqual({ endedBy: 'guest' });
    expect(host.ran).toEqual(['c1']);
    expect(host.asked).toEqual(['c1']);
  });

  it('is sent again, under the same id, to a host that it never reached or that has not done it', async () => {
    await using hub = await startTestHub();
    for (const journal of [() => undefined, () => ({ state: 'failed', reconciled: { outcome: 'not-done' } })]) {
      await using host = new Host();
      host.key = undefined;
      await using command = await broken(hub, host, { commandId: `c-${hub.log.length}`, whenOffline: 'queue' });
      host.journal = journal;
      await host.connect(hub);
      expect(await command.call).toMatchObject({ endedBy: 'quit' });
      expect(host.ran.length).toBe(2);
      expect(new Set(host.ran).size).toBe(1);
      await host.drop(hub);
      await result(hub, 'host.remove', { host: 'h1' });
    }
  });

  it('is told to be interrupted where its caller does not wait, and is found out about all the same', async () => {
    await using hub = await startTestHub();
    await using host = new Host();
    await using command = await broken(hub, host, { commandId: 'c1' });
    await expect(command.call).rejects.toMatchObject({ code: 'INTERRUPTED', details: { commandId: 'c1' } });
    expect(await result(hub, 'command.get', { id: 'c1' })).toMatchObject({ state: 'settling' });
    host.journal = () => ({ state: 'done', result: { endedBy: 'guest' } });
    await host.connect(hub);
    expect(await result(hub, 'command.wait', { id: 'c1' })).toMatchObject({ state: 'done', result: { endedBy: 'guest' } });
    expect(host.ran).toEqual(['c1']);
  });

  it('is not sent to a host that never had it, once its caller has been told that it failed', async () => {
    await using hub = await startTestHub();
    await using host = new Host();
    await using command = await broken(hub, host, { commandId: 'c1' });
    await expect(command.call).rejects.toMatchObject({ code: 'INTERRUPTED' });
    await host.connect(hub);
    expect(await result(hub, 'command.wait', { id: 'c1' })).toMatchObject({ state: 'failed', error: { code: 'INTERRUPTED' } });
    expect(host.ran).toEqual(['c1']);
  });

  it('says that nobody knows, where the host cannot tell', async () => {
    await using hub = await startTestHub();
    await using host = new Host();
    await using _command = await broken(hub, host, { commandId: 'c1' });
    host.journal = () => {
      throw new FairleadError('JOURNAL_FAILED', 'it cannot be read');
    };
    await host.connect(hub);
    expect(await result(hub, 'command.wait', { id: 'c1' })).toMatchObject({ state: 'unknown' });
  });
});

describe('a command that runs', () => {
  it('ends as its host says, also when it was cancelled', async () => {
    await using hub = await startTestHub();
    await using host = new Host();
    const begun = Promise.withResolvers<void>();
    host.stop = (_params, { cancellation }) => {
      begun.resolve();
      return new Promise((resolve) => cancellation.addEventListener('abort', () => resolve({ endedBy: 'guest' })));
    };
    host.journal = () => ({ state: 'done', result: { endedBy: 'guest' } });
    await host.connect(hub);
    await result(hub, 'command.submit', { ...STOP, id: 'c1' });
    await begun.promise;
    expect(await result(hub, 'command.cancel', { id: 'c1' })).toMatchObject({ state: 'done', result: { endedBy: 'guest' } });
  });

  it('is one command however often it is asked for, and its id is no other command', async () => {
    await using hub = await startTestHub();
    await using host = new Host();
    const go = Promise.withResolvers<JsonObject>();
    host.stop = () => go.promise;
    await host.connect(hub);
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    const stop = (vm: string) => operator.line.peer.call('vm.stop', { vm, host: 'h1' }, { meta: { commandId: 'c1' } });
    const calls = [stop('web'), stop('web'), stop('web')];
    await expect.poll(() => host.ran.length).toBe(1);
    await expect(stop('db')).rejects.toMatchObject({ code: 'CONFLICT' });
    go.resolve({ endedBy: 'guest' });
    expect(await Promise.all(calls)).toEqual([{ endedBy: 'guest' }, { endedBy: 'guest' }, { endedBy: 'guest' }]);
    expect(await stop('web')).toEqual({ endedBy: 'guest' });
    expect(host.ran).toEqual(['c1']);
  });
});

describe('a hub that is started anew', () => {
  it('goes on with commands that waited, asks after those that ran, and keeps those that had ended', async () => {
    const data = await restartable();
    await using host = new Host();
    {
      await using hub = await data.start();
      await host.connect(hub);
      await result(hub, 'command.submit', { ...STOP, id: 'ended' });
      await result(hub, 'command.wait', { id: 'ended' });
      host.stop = never;
      await result(hub, 'command.submit', { ...STOP, id: 'ran' });
      await expect.poll(() => host.ran.length).toBe(2);
      await host.drop(hub);
      // The administrator's token of an embedded hub is another at each start.
      const { token } = await result(hub, 'token.create', { kind: 'operator' });
      await hub.post('command.submit', { ...STOP, id: 'waited' }, textOf(token));
    }
    host.stop = () => ({ vm: fakeVmInfo('web', 'stopped'), endedBy: 'quit' });
    host.journal = (id) => (id === 'ran' ? { state: 'done', result: { endedBy: 'guest' } } : undefined);
    {
      await using hub = await data.start();
      expect(await result(hub, 'command.get', { id: 'ended' })).toMatchObject({ state: 'done', result: { endedBy: 'quit' } });
      expect((await result(hub, 'vm.find', {}))['vms']).toEqual([expect.objectContaining({ vm: 'web', connected: false })]);
      await host.connect(hub);
      expect(await result(hub, 'command.wait', { id: 'ran' })).toMatchObject({ state: 'done', result: { endedBy: 'guest' } });
      expect(await result(hub, 'command.wait', { id: 'waited' })).toMatchObject({ state: 'done' });
      expect(host.ran).toEqual(['ended', 'ran', 'waited']);
      expect(host.asked).toEqual(['ran']);
      const types = (await result(hub, 'event.list', { types: ['host.'] }))['events'] as readonly JsonObject[];
      expect(types.map(({ type }) => type)).toEqual(['host.enrolled', 'host.connected', 'host.disconnected', 'host.connected']);
      const audited = (await result(hub, 'audit.list', { method: 'command.submit' }))['entries'] as readonly JsonObject[];
      expect(audited.map(({ code }) => code)).toEqual(['OK', 'OK', 'OK']);
    }
    await data.remove();
  });
});

describe('a host that is cordoned', () => {
  it('takes no new VM, keeps what it has, and takes some again', async () => {
    await using hub = await startTestHub();
    await using host = new Host();
    await host.connect(hub);
    expect(await result(hub, 'host.cordon', { host: 'h1', reason: 'new disk' })).toMatchObject({
      cordoned: { reason: 'new disk', drained: false },
    });
    const create = () => result(hub, 'vm.create', { spec: { name: 'new' }, host: 'h1' });
    await expect(create()).rejects.toThrow(/WRONG_STATE: host h1 takes no new VMs \(new disk\)/);
    await result(hub, 'vm.stop', { vm: 'web' });
    await result(hub, 'host.uncordon', { host: 'h1' });
    expect(await create()).toMatchObject({ name: 'new' });
  });

  it('has its VMs put to rest when it is drained, and says which would not', async () => {
    await using hub = await startTestHub();
    await using host = new Host();
    await host.connect(hub);
    await expect.poll(async () => (await result(hub, 'vm.find', {}))['vms']).toHaveLength(1);
    host.stop = () => {
      throw new FairleadError('PROCESS_FAILED', 'it would not');
    };
    expect(await result(hub, 'host.drain', { host: 'h1' })).toMatchObject({
      host: { cordoned: { drained: true } },
      failed: [{ vm: 'web', code: 'PROCESS_FAILED' }],
    });
    host.stop = () => ({ vm: fakeVmInfo('web', 'stopped'), endedBy: 'quit' });
    expect(await result(hub, 'host.drain', { host: 'h1' })).toMatchObject({ rested: ['web'], failed: [] });
  });

  it('and labels are found by the selector', async () => {
    await using hub = await startTestHub();
    await using host = new Host();
    await host.connect(hub);
    await result(hub, 'host.label', { host: 'h1', set: { zone: 'a', disk: 'ssd' } });
    expect(await result(hub, 'host.label', { host: 'h1', remove: ['disk'] })).toMatchObject({ labels: { zone: 'a' }, zone: 'a' });
    const names = async (filter: object) =>
      ((await result(hub, 'host.list', filter))['hosts'] as readonly JsonObject[]).map(({ host: name }) => name);
    expect(await names({ labels: { zone: 'a' } })).toEqual(['h1']);
    expect(await names({ labels: { zone: 'b' } })).toEqual([]);
    expect(await names({ cordoned: true })).toEqual([]);
  });
});
