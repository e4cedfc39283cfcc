/**
 * What the hub answers over plain HTTP: probes and metrics (health.ts), enrolment of agents, and JSON-RPC by POST. Challenges are answered
 * before it (challenge.ts), and the WebSockets on `/agent` and `/rpc` are the upgrade's business (hub/sessions/upgrade.ts).
 */
import type { Socket } from 'node:net';
import type { HttpBindings } from '@hono/node-server';
import { type Context, Hono } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { cors } from 'hono/cors';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import { ENROL_PATH, EnrolRequest } from '../../shared/protocol/handshake.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import { HandshakeRefused, refusalBody, refusalHeaders, toRefusal } from '../auth/refused.ts';
import { remoteAddress } from './address.ts';
import type { HealthApp } from './health.ts';
import type { RefusedEndpoint } from './metrics.ts';
import type { RpcPost } from './rpc-post.ts';

export interface AppServices {
  readonly health: HealthApp;
  readonly behindProxy: boolean;
  readonly allowedOrigins: readonly string[];
  enrol(request: EnrolRequest, address: string): Promise<{ host: string; hubId: string }>;
  /** Takes one handshake of that address. @throws HandshakeRefused */
  admit(address: string): void;
  /** Told of each refusal, for metrics and, where the fault is ours, the log. */
  onRefused(endpoint: RefusedEndpoint, refusal: HandshakeRefused): void;
  /** The connection is somebody's now. */
  onAuthenticated(socket: Socket): void;
  rpcPost: RpcPost;
}

type Env = { Bindings: HttpBindings };
type HttpContext = Context<Env>;

const MAX_ENROL_BYTES = 32 * 1024;
/** The longest message of the line, and so the longest call by POST. */
const MAX_RPC_BYTES = 256 * 1024;

export function createApp(services: AppServices): Hono<Env> {
  const app = new Hono<Env>();
  const address = (context: HttpContext) => remoteAddress(context.env.incoming, services.behindProxy);

  app.route('/', services.health);

  app.post(ENROL_PATH, bodyLimit({ maxSize: MAX_ENROL_BYTES, onError: tooLong }), async (context) => {
    try {
      services.admit(address(context));
      const request = parseWith(EnrolRequest, await readJson(context), 'enrolment');
      const { host, hubId } = await services.enrol(request, address(context));
      return context.json({ host, hubId }, 200, { 'cache-control': 'no-store' });
    } catch (error) {
      return refuse(context, services, 'enrol', error);
    }
  });

  app.use('/rpc', cors({ origin: [...services.allowedOrigins], allowMethods: ['POST'], maxAge: 600 }));
  app.post('/rpc', bodyLimit({ maxSize: MAX_RPC_BYTES, onError: tooLong }), async (context) => {
    const { status, body, headers } = await services.rpcPost.answer({
      authorization: context.req.header('authorization'),
      origin: context.req.header('origin'),
      address: address(context),
      text: await context.req.text(),
      signal: context.req.raw.signal,
      onAuthenticated: () => services.onAuthenticated(context.env.incoming.socket),
    });
    return context.body(body, asStatus(status), { 'content-type': 'application/json', 'cache-control': 'no-store', ...headers });
  });

  app.notFound((context) => context.json({ error: { code: 'NOT_FOUND', message: `no ${context.req.path} here` } }, 404));
  app.onError((error, context) => refuse(context, services, 'rpc', error));
  return app;
}

async function readJson(context: HttpContext): Promise<unknown> {
  try {
    return await context.req.json();
  } catch (cause) {
    throw new HandshakeRefused('PARSE_ERROR', 'malformed', 'the body is no JSON', { cause });
  }
}

function refuse(context: HttpContext, services: AppServices, endpoint: RefusedEndpoint, thrown: unknown) {
  const refusal = toRefusal(thrown);
  services.onRefused(endpoint, refusal);
  return context.json(refusalBody(refusal), asStatus(refusal.status), refusalHeaders(refusal));
}

function tooLong(context: Context) {
  return context.json({ error: { code: 'INVALID_REQUEST', message: 'the body is too long' } }, 413);
}

function asStatus(status: number): ContentfulStatusCode {
  // SAFETY: statuses come from the error table and HandshakeRefused: all of them may have a body. Hono's type lists the registered ones.
  return status as ContentfulStatusCode;
}
