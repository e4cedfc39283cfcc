/** The client library against a real hub and a real agent; the guest is an echo. */
import { randomBytes } from 'node:crypto';
import { text } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { connect as connectBrowser } from '../../client/browser.ts';
import { connect, FairleadError, type HubLineState } from '../../client/index.ts';
import { startFakeFleet } from '../support/fake-fleet.ts';

const MIB = 1024 ** 2;

async function collect(readable: ReadableStream<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of readable) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function send(writable: WritableStream<Uint8Array>, bytes: Uint8Array): Promise<void> {
  const writer = writable.getWriter();
  for (let offset = 0; offset < bytes.length; offset += 50_000) await writer.write(bytes.subarray(offset, offset + 50_000));
  await writer.close();
}

describe('a program with the client library', () => {
  it('calls methods with their types, and gets errors of the contract', async () => {
    await using fleet = await startFakeFleet();
    await using hub = await connect(fleet.url, fleet.token);
    const { state } = await hub.call('vm.get', { vm: 'web' });
    expect(state).toBe('running');
    expect(await hub.call('vm.pause', { vm: 'web', host: 'edge-1' })).toMatchObject({ name: 'web' });
    await expect(hub.call('vm.get', { vm: 'nope', host: 'edge-1' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(hub.call('host.info', { host: 'nowhere' })).rejects.toBeInstanceOf(FairleadError);
    // @ts-expect-error there is no such method
    const wrong = () => hub.call('vm.fly', {});
    expect(wrong).toBeTypeOf('function');
  });

  it('has a stream as a Duplex that ends one direction alone', async () => {
    await using fleet = await startFakeFleet();
    await using hub = await connect(fleet.url, fleet.token);
    const stream = await hub.openStream('web', 7);
    stream.end('hello');
    expect(await text(stream)).toBe('hello');
    await expect(hub.openStream('nope', 7, { host: 'edge-1' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('is told why the hub does not let it in, and of an address that is none', async () => {
    await using fleet = await startFakeFleet();
    await expect(connect(fleet.url, 'flo_00_nobody')).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    await expect(connect('http://127.0.0.1:1', fleet.token)).rejects.toMatchObject({ code: 'CONNECT_FAILED' });
    await expect(connect('ftp://hub', fleet.token)).rejects.toMatchObject({ code: 'INVALID_PARAMS' });
  });

  it('dials again when the line breaks: a stream goes on, a later call waits for the line', async () => {
    await using fleet = await startFakeFleet();
    const states: HubLineState[] = [];
    const broken = Promise.withResolvers<void>();
    await using hub = await connect(fleet.url, fleet.token, {
      onState: (state) => {
        states.push(state);
        if (state === 'dialling') broken.resolve();
      },
    });
    const stream = await hub.openStream('web', 7);
    const sent = randomBytes(2 * MIB);
    const received = text(stream.setEncoding('latin1'));
    const cut = fleet.proxy.cutAfter(MIB);
    stream.end(sent);
    await Promise.all([cut, broken.promise]);
    expect(await hub.call('vm.get', { vm: 'web' })).toMatchObject({ name: 'web' });
    expect(Buffer.from(await received, 'latin1').equals(sent)).toBe(true);
    expect(states).toEqual(['up', 'dialling', 'up']);
  });

  it('gives up a call whose line is not there within its time, and every call once it is closed', async () => {
    await using fleet = await startFakeFleet();
    const lost = Promise.withResolvers<void>();
    const hub = await connect(fleet.url, fleet.token, { onState: (state) => state === 'dialling' && lost.resolve() });
    const cut = fleet.proxy.cutAfter(1);
    const failed = hub.call('hub.info', {}).catch((error: unknown) => error);
    await cut;
    expect(await failed).toMatchObject({ code: 'INTERRUPTED' });
    await fleet.proxy[Symbol.asyncDispose]();
    await lost.promise;
    await expect(hub.call('hub.info', {}, { timeoutMs: 100 })).rejects.toMatchObject({ code: 'TIMEOUT' });
    await expect(hub.openStream('web', 7, { timeoutMs: 100 })).rejects.toMatchObject({ code: 'TIMEOUT' });
    await expect(hub.call('hub.info', {}, { signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
    await hub[Symbol.asyncDispose]();
    await expect(hub.call('hub.info', {})).rejects.toMatchObject({ code: 'INTERRUPTED' });
  });

  it('names the command whose answer was lost, and is answered by its id', async () => {
    await using fleet = await startFakeFleet();
    await using hub = await connect(fleet.url, fleet.token);
    const commandId = 'command-0001';
    await hub.call('vm.pause', { vm: 'web' }, { commandId });
    await hub.call('vm.pause', { vm: 'web' }, { commandId });
    expect(fleet.vms.calls.filter(([name]) => name === 'pause')).toHaveLength(1);
  });
});

describe('a web page with the client library', () => {
  it('comes in by a token in a sub-protocol, and carries bytes both ways as Web streams', async () => {
    await using fleet = await startFakeFleet();
    await using hub = await connectBrowser(fleet.url, fleet.token);
    expect(await hub.call('vm.get', { vm: 'web' })).toMatchObject({ name: 'web' });
    const { readable, writable } = await hub.openWebStream('web', 7);
    const sent = randomBytes(2 * MIB);
    const [received] = await Promise.all([collect(readable), send(writable, sent)]);
    expect(received.equals(sent)).toBe(true);
  });

  it('is not let in with a wrong token, or from a page of an origin that is not allowed', async () => {
    await using fleet = await startFakeFleet();
    await expect(connectBrowser(fleet.url, 'flo_00_nobody')).rejects.toMatchObject({ code: 'CONNECT_FAILED' });
    await expect(connectBrowser(fleet.url, 'two words')).rejects.toMatchObject({ code: 'INVALID_PARAMS' });
    expect(fleet.hub.log.find(({ message }) => message.includes('upgrade to /rpc refused'))).toBeDefined();
    expect(JSON.stringify(fleet.hub.log)).not.toContain(fleet.token);
  });

  it('goes on after a cut, without a byte lost or doubled', async () => {
    await using fleet = await startFakeFleet();
    await using hub = await connectBrowser(fleet.url, fleet.token);
    const { readable, writable } = await hub.openWebStream('web', 7);
    const sent = randomBytes(2 * MIB);
    const received = collect(readable);
    const cut = fleet.proxy.cutAfter(MIB);
    await Promise.all([send(writable, sent), cut]);
    expect((await received).equals(sent)).toBe(true);
  });

  it('resets a stream that its reader or its writer gives up', async () => {
    await using fleet = await startFakeFleet();
    await using hub = await connectBrowser(fleet.url, fleet.token);
    const one = await hub.openWebStream('web', 7);
    await one.readable.cancel();
    await expect(one.writable.getWriter().closed).rejects.toMatchObject({ code: 'CANCELLED' });
    const two = await hub.openWebStream('web', 7);
    await two.writable.abort(new Error('enough'));
    await expect(two.readable.getReader().read()).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  it('reads no more than it is asked for: the other end stops at its window', async () => {
    await using fleet = await startFakeFleet();
    await using hub = await connectBrowser(fleet.url, fleet.token);
    const { readable, writable } = await hub.openWebStream('web', 7);
    const writer = writable.getWriter();
    let written = 0;
    const writing = (async () => {
      while (written < 64 * MIB) {
        await writer.write(new Uint8Array(64 * 1024));
        written += 64 * 1024;
      }
    })();
    // It stops by itself once every buffer on the way is full: the same after many turns, with calls between.
    let before = -1;
    await expect
      .poll(
        async () => {
          await hub.call('hub.info', {});
          const isStill = written === before && written > 0;
          before = written;
          return isStill;
        },
        { interval: 200, timeout: 20_000 },
      )
      .toBe(true);
    expect(written).toBeLessThan(16 * MIB);
    // Its next write fails, and it ends.
    await readable.cancel();
    await writing.catch(() => {});
  });
});
