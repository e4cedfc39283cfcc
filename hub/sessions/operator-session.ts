/** One line from one operator: calls go to the dispatcher, streams to the relay. Ends with its token. */
import { randomBytes } from 'node:crypto';
import { FairleadError, toFairleadError } from '../../shared/errors.ts';
import { Line } from '../../shared/line/line.ts';
import type { MessageSocket } from '../../shared/line/message-socket.ts';
import type { MemoryPool } from '../../shared/mux/pool.ts';
import { VERSION } from '../../shared/node/version.ts';
import { CONTRACT_VERSION } from '../../shared/protocol/version.ts';
import type { HubLogger } from '../logger.ts';
import type { StreamRelay } from '../relay/stream-relay.ts';
import type { Caller } from '../rpc/caller.ts';
import type { Dispatcher } from '../rpc/dispatcher.ts';

const POLICY_VIOLATION = 1008;
const GOING_AWAY = 1001;

export interface OperatorSessionOptions {
  readonly caller: Caller;
  readonly socket: MessageSocket;
  readonly helloTimeoutMs: number;
  readonly maxStreams: number;
  /** Memory of all sessions of its token. */
  readonly pool: MemoryPool;
  readonly dispatcher: Dispatcher;
  readonly relay: StreamRelay;
  readonly logger: HubLogger;
}

export class OperatorSession {
  readonly caller: Caller;
  readonly #logger: HubLogger;
  readonly #line: Line;
  readonly #relay: StreamRelay;

  constructor(options: OperatorSessionOptions) {
    const { caller, dispatcher, relay } = options;
    this.caller = caller;
    this.#relay = relay;
    this.#logger = options.logger.child({ tokenId: caller.principal.tokenId, address: caller.address });
    this.#line = new Line({
      socket: options.socket,
      role: 'acceptor',
      hello: {
        contract: CONTRACT_VERSION,
        software: `fairlead-hub/${VERSION}`,
        role: 'hub',
        session: { id: randomBytes(16).toString('base64url'), epoch: 0, resume: true },
      },
      handlers: {
        onRequest: (method, params, context) => dispatcher.call(method, params, context, caller),
        onOpen: (stream, meta) => relay.open(stream, meta, caller, this.#line.mux),
        onResume: (stream, said) => relay.resumeOperator(stream, said, caller, this.#line.mux),
      },
      limits: { helloTimeoutMs: options.helloTimeoutMs, mux: { maxStreams: options.maxStreams } },
      pool: options.pool,
      logger: this.#logger,
    });
  }

  /** Bottom half: resolves when the line is closed. */
  async run(): Promise<'closed' | 'failed'> {
    let failure: FairleadError | undefined;
    try {
      const hello = await this.#line.ready;
      const { role } = hello;
      if (role !== 'operator') throw new FairleadError('PROTOCOL_ERROR', `an operator's HELLO says role ${role}, not operator`);
      if (hello.session.resume === true) this.#relay.released(this.caller, hello);
      this.#logger.info({}, 'operator connected');
    } catch (thrown) {
      failure = toFairleadError(thrown);
      this.close(POLICY_VIOLATION, failure.message);
    }
    const { error = failure, code, reason } = await this.#line.closed;
    const fields = { closeCode: code, reason, code: error?.code };
    if (error === undefined) this.#logger.info(fields, 'operator disconnected');
    else this.#logger.warn(fields, `operator disconnected: ${error.message}`);
    return error === undefined ? 'closed' : 'failed';
  }

  goAway(options: { drainMs: number; spreadMs: number; reason: string }): void {
    this.#line.goAway(options);
  }

  close(code = GOING_AWAY, reason = 'the hub closes the line'): void {
    this.#line.close(code, reason);
  }

  get closed(): Promise<unknown> {
    return this.#line.closed;
  }
}
