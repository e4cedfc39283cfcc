/** A web page, as far as Node can be one: the client library finds no global of Node's. Says what it saw as JSON. */
const [, , url = '', token = ''] = process.argv;
const dialled: string[] = [];
globalThis.WebSocket = class extends WebSocket {
  constructor(...[address, protocols]: ConstructorParameters<typeof WebSocket>) {
    super(address, protocols);
    dialled.push(String(address));
  }
};
// Not there for our own sources: the WebSocket of Node itself looks for them.
for (const name of ['Buffer', 'process', 'setImmediate', 'clearImmediate', 'global']) {
  const value: unknown = Reflect.get(globalThis, name);
  const get = (): unknown => {
    const caller = new Error(name).stack?.split('\n')[2] ?? '';
    if (/\/(client|shared)\//.test(caller)) throw new ReferenceError(`${name} is not defined ${caller.trim()}`);
    return value;
  };
  Object.defineProperty(globalThis, name, { get });
}

const { connect } = await import('../../../client/browser.ts');

const codeOf = (thrown: unknown): unknown =>
  typeof thrown === 'object' && thrown !== null ? Reflect.get(thrown, 'code') : thrown;
const hub = await connect(url, token, { timeoutMs: 30_000 });
const saw: Record<string, unknown> = {};

// Both directions, each ended alone.
const sent = crypto.getRandomValues(new Uint8Array(60_000));
const echo = await hub.openWebStream('web', 7);
const writer = echo.writable.getWriter();
const received = new Response(echo.readable).bytes();
for (let round = 0; round < 20; round += 1) await writer.write(sent);
await writer.close();
const bytes = await received;
saw['echo'] = bytes.length === 20 * sent.length && bytes.every((byte, index) => byte === sent[index % sent.length]);

// A signal gives up a call and an opening, and nothing is left of either.
saw['call'] = await hub.call('hub.info', {}, { signal: AbortSignal.abort('enough') }).catch(codeOf);
saw['opening'] = await hub.openWebStream('web', 7, { signal: AbortSignal.abort('enough') }).catch((reason: unknown) => reason);
saw['attempt'] = await connect(url, token, { signal: AbortSignal.abort('enough') }).catch((reason: unknown) => reason);

// A reader that gives up fails the writer; what is refused says why.
const cancelled = await hub.openWebStream('web', 7);
await cancelled.readable.cancel();
saw['cancelled'] = await cancelled.writable.getWriter().closed.catch(codeOf);
saw['refused'] = await hub.openWebStream('nobody', 7, { host: 'edge-1' }).catch(codeOf);

// Closed: streams end with an error, and later calls at once.
const open = await hub.openWebStream('web', 7);
const reading = open.readable.getReader().read().catch(codeOf);
await hub[Symbol.asyncDispose]();
saw['closed'] = [await reading, await hub.call('hub.info', {}).catch(codeOf)];
saw['dialled'] = dialled;
console.log(JSON.stringify(saw));
