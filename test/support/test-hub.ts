/** A real hub on a loopback port with its data in memory (or a directory), its log kept for the test to read. */
import { type HubConfigInput, parseHubConfig } from '../../hub/config.ts';
import { createHub, type Hub, type HubOptions } from '../../hub/hub.ts';
import type { HubLogger } from '../../hub/logger.ts';

export interface LogLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

export interface TestHub extends AsyncDisposable {
  readonly hub: Hub;
  readonly url: string;
  readonly log: readonly LogLine[];
  /** Resolves with the first line, past or to come, whose message contains `text`. */
  logged(text: string): Promise<LogLine>;
  post(method: string, params?: object, token?: string): Promise<{ status: number; body: RpcAnswer }>;
  readonly adminToken: string;
}

export interface RpcAnswer {
  readonly id: unknown;
  readonly result?: Readonly<Record<string, unknown>>;
  readonly error?: { readonly code: number; readonly message: string; readonly data: Readonly<Record<string, unknown>> };
}

export async function startTestHub(
  config: Partial<HubConfigInput> = {},
  time: Pick<HubOptions, 'now' | 'clock'> = {},
): Promise<TestHub> {
  const lines: LogLine[] = [];
  const waiting = new Set<(line: LogLine) => void>();
  const logger = collectingLogger({}, (line) => {
    lines.push(line);
    for (const tell of waiting) tell(line);
  });
  const hub = createHub(parseHubConfig({ dataDir: ':memory:', listen: '127.0.0.1:0', drainMs: 200, ...config }), {
    logger,
    ...time,
  });
  await hub.start();
  const adminToken = await hub.bootstrap.adminToken();
  const { url } = hub.address;
  return {
    hub,
    url,
    adminToken,
    log: lines,
    logged: async (text) => {
      const past = lines.find((line) => line.message.includes(text));
      if (past !== undefined) return past;
      const { promise, resolve } = Promise.withResolvers<LogLine>();
      const tell = (line: LogLine) => {
        if (line.message.includes(text)) resolve(line);
      };
      waiting.add(tell);
      const line = await promise;
      waiting.delete(tell);
      return line;
    },
    post: (method, params = {}, token = adminToken) => postRpc(url, token, { jsonrpc: '2.0', id: 1, method, params }),
    [Symbol.asyncDispose]: () => hub.stop(),
  };
}

export async function postRpc(url: string, token: string, body: unknown): Promise<{ status: number; body: RpcAnswer }> {
  const response = await fetch(`${url}/rpc`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', connection: 'close' },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  // SAFETY: the hub answers with JSON-RPC; a test that gets something else fails on what it looks for.
  return { status: response.status, body: (await response.json()) as RpcAnswer };
}

function collectingLogger(bindings: Record<string, unknown>, tell: (line: LogLine) => void): HubLogger {
  const at = (level: LogLine['level']) => (fields: object, message: string) =>
    tell({ level, message, fields: { ...bindings, ...fields } });
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (more) => collectingLogger({ ...bindings, ...more }, tell),
  };
}
