/**
 * Answers operators, the same for a WebSocket and for a POST: is there such a method, may they, are the params right, and then either
 * the hub's own handler or the host that the call is for.
 *
 * A call to a host is validated here once, so that a mistake is told without a trip to the host; the host gets the params as they were
 * written and its answer is passed through.
 */
import type { Clock } from '../../shared/clock.ts';
import { withCommandId } from '../../shared/command-id.ts';
import { FairleadError, type JsonObject, toFairleadError } from '../../shared/errors.ts';
import { forwardOptions } from '../../shared/jsonrpc/forward.ts';
import type { JsonRpcPeer } from '../../shared/jsonrpc/peer.ts';
import type { RequestContext } from '../../shared/jsonrpc/types.ts';
import type { MuxSession } from '../../shared/mux/session.ts';
import { changesSomething } from '../../shared/protocol/changes.ts';
import type { MethodContract } from '../../shared/protocol/contract.ts';
import { type HubMethodName, isMethodName, type MethodName, methodContract } from '../../shared/protocol/methods.ts';
import type { WhenOffline } from '../../shared/protocol/methods-command.ts';
import { splitHost } from '../../shared/protocol/operator.ts';
import { requireKnownMethod } from '../../shared/protocol/skew.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { requireRole } from '../auth/principal.ts';
import type { Commands } from '../commands/commands.ts';
import type { HubMetrics } from '../http/metrics.ts';
import { type Images, mayNameImages } from '../images/images.ts';
import type { AwayHost, Fleet, FleetSession } from '../sessions/fleet.ts';
import type { HostState } from '../store/records.ts';
import type { Collection } from '../store/store.ts';
import type { Audit, AuditedCall } from './audit.ts';
import type { Caller } from './caller.ts';
import { type CommandMeta, commandMeta } from './command-meta.ts';
import type { HubCall, HubHandlers } from './handlers/types.ts';
import { HostShares } from './host-shares.ts';
import { shownOperation } from './shown-operation.ts';

/** What calls and streams need of a host's session. */
export interface HostSession extends FleetSession {
  readonly contractVersion: number;
  readonly peer: JsonRpcPeer;
  readonly mux: MuxSession;
}

export interface DispatcherOptions {
  readonly fleet: Fleet<HostSession>;
  readonly hosts: Collection<HostState>;
  readonly commands: Commands;
  /** Of the methods that the hub answers itself. */
  readonly handlers: HubHandlers;
  readonly images: Pick<Images, 'resolved'>;
  readonly metrics: HubMetrics;
  readonly audit: Audit;
  readonly clock: Clock;
  /** Unix milliseconds. */
  readonly now: () => number;
}

/** A call once it is known to be allowed and well formed. */
export interface CheckedCall {
  readonly method: MethodName;
  readonly contract: MethodContract;
  readonly host: string | undefined;
  /** As the caller wrote them, without `host`. */
  readonly params: JsonObject;
}

export interface PlacedCall extends CheckedCall {
  readonly host: string;
}

/** Commands that a host which is cordoned does not get. */
const MAKES_VM: ReadonlySet<MethodName> = new Set(['vm.create', 'vm.run', 'vm.clone']);

export class Dispatcher {
  readonly #options: DispatcherOptions;
  readonly #shares = new HostShares();
  #inFlight = 0;

  constructor(options: DispatcherOptions) {
    this.#options = options;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** @throws FairleadError, as the method's contract says */
  async call(method: string, params: JsonObject, context: RequestContext, caller: Caller): Promise<unknown> {
    const { clock } = this.#options;
    const startedMs = clock.now();
    this.#inFlight += 1;
    let code = 'OK';
    let host: string | undefined;
    let commandId: string | undefined;
    try {
      const call = this.check(method, params, caller);
      if (call.contract.kind === 'stream') {
        throw new FairleadError('INVALID_REQUEST', `${method} is opened as a stream on the WebSocket, not called`);
      }
      if (isHubMethod(call.method)) return await this.#answer(call.method, call.params, { caller, context });
      if (changesSomething(call.method, call.params)) {
        const meta = commandMeta(context.meta);
        commandId = meta.commandId;
        const placed = await this.#placed(call, meta.whenOffline);
        host = placed.host;
        return await this.#command(placed, meta, context, caller);
      }
      const session = this.locate(call);
      if ('away' in session) throw await this.#options.fleet.unreachable(session);
      host = session.host;
      using _ = this.#share(host, call, caller);
      // A call that names no image goes out in the turn in which it came.
      const sent = mayNameImages(call.params) ? await this.#options.images.resolved(call.params) : call.params;
      const result = await session.peer.call(call.method, sent, forwardOptions(context));
      return call.method === 'op.get' ? shownOperation(result, caller.principal.role) : result;
    } catch (thrown) {
      code = toFairleadError(thrown).code;
      throw thrown;
    } finally {
      this.#inFlight -= 1;
      const ended = { method, params, host, code, commandId, durationMs: clock.now() - startedMs };
      const isChange = changesSomething(method, params);
      // What changed something is told once it is in the audit; of anything else the caller hears first.
      if (isChange) await this.#options.audit.changed(caller, ended);
      this.#note(caller, ended, isChange);
    }
  }

  /** The one place where a method's name, its params and its handler meet: M keeps the three together. */
  async #answer<M extends HubMethodName>(method: M, params: JsonObject, call: HubCall): Promise<unknown> {
    return await this.#options.handlers[method](parseParams(method, params), call);
  }

  /** A command as a caller gave it, and the host that it is for: known, allowed, well formed. @throws FairleadError */
  async place(method: string, params: JsonObject, caller: Caller): Promise<PlacedCall> {
    return await this.#placed(this.check(method, params, caller), 'queue');
  }

  async #command(call: PlacedCall, meta: CommandMeta, context: RequestContext, caller: Caller): Promise<unknown> {
    const { method, host, params } = call;
    const { commandId: id, whenOffline } = meta;
    const { tokenId: actor } = caller.principal;
    using _ = this.#share(host, call, caller);
    const remainingMs = context.remainingMs();
    const timeoutMs = remainingMs === undefined ? undefined : Math.max(1, remainingMs);
    try {
      const result = await this.#options.commands.call({ id, host, method, params, actor, whenOffline, timeoutMs }, context);
      this.#remember(call, host);
      return result;
    } catch (error) {
      throw withCommandId(error, id);
    }
  }

  /** @throws FairleadError HOST_UNREACHABLE, NOT_FOUND, WRONG_STATE (the host takes no new VMs) */
  async #placed(call: CheckedCall, whenOffline: WhenOffline): Promise<PlacedCall> {
    const found = this.locate(call);
    const host = 'away' in found ? found.away : found.host;
    if ('away' in found) {
      const error = await this.#options.fleet.unreachable(found);
      if (whenOffline === 'fail' || error.code !== 'HOST_UNREACHABLE') throw error;
    }
    if (MAKES_VM.has(call.method)) await this.#requireOpen(host, call.method);
    return { ...call, host, params: await this.#options.images.resolved(call.params) };
  }

  async #requireOpen(host: string, method: string): Promise<void> {
    const cordoned = (await this.#options.hosts.get(host))?.value.cordoned;
    if (cordoned === undefined) return;
    const because = cordoned.reason === '' ? '' : ` (${cordoned.reason})`;
    const message = `host ${host} takes no new VMs${because}, so that ${method} was not sent: choose another, or fairlead host uncordon ${host}`;
    throw new FairleadError('WRONG_STATE', message, { details: { host } });
  }

  #share(host: string, { params }: CheckedCall, { principal }: Caller): Disposable {
    return this.#shares.take({ host, tokenId: principal.tokenId, endless: params['follow'] === true });
  }

  /** Counted and written later. */
  #note(caller: Caller, call: AuditedCall, isChange: boolean): void {
    const { metrics, audit } = this.#options;
    metrics.rpcEnded(isMethodName(call.method) ? call.method : 'unknown', call.code, call.durationMs);
    if (!isChange) audit.read(caller, call);
  }

  /** @throws FairleadError METHOD_NOT_FOUND, UNAUTHENTICATED, PERMISSION_DENIED, INVALID_PARAMS */
  check(method: string, params: JsonObject, caller: Caller): CheckedCall {
    if (!isMethodName(method)) throw new FairleadError('METHOD_NOT_FOUND', `there is no method ${method.slice(0, 128)}`);
    const contract = methodContract(method);
    requireRole(caller.principal, contract.role, method, this.#options.now());
    const call = splitHost(method, params);
    if (contract.target === 'agent') parseParams(method, call.params);
    return { method, contract, ...call };
  }

  /** The host's session, new enough for the method, or the host that has none. */
  locate({ method, host, params }: CheckedCall): HostSession | AwayHost {
    const found = this.#options.fleet.locate(host, params);
    if (!('away' in found)) requireKnownMethod(found.contractVersion, method, `host ${found.host}`);
    return found;
  }

  /** The host's event says the same, but the caller's next call may be faster than that. */
  #remember({ method, params }: CheckedCall, host: string): void {
    const { inventory } = this.#options.fleet;
    if (method === 'vm.delete' && typeof params['vm'] === 'string') inventory.remove(host, params['vm']);
    if (method !== 'vm.create' && method !== 'vm.run') return;
    const { spec } = parseParams(method, params);
    if (inventory.get(host, spec.name) !== undefined) return;
    inventory.set(host, { name: spec.name, state: 'created', ready: false, generation: 0, labels: spec.labels });
  }
}

function isHubMethod(method: MethodName): method is HubMethodName {
  return methodContract(method).target === 'hub';
}
