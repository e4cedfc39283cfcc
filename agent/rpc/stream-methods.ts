/** Methods that are called by opening a stream: policy first, then the stream at this end and the answer that opens it at the other. */
import type { Duplex } from 'node:stream';
import { FairleadError } from '../../shared/errors.ts';
import { type AgentStreamName, isMethodName, methodContract, type Params, type Result } from '../../shared/protocol/methods.ts';
import type { VmSpec } from '../../shared/protocol/vm-spec.ts';
import type { Vms } from '../vm/api.ts';
import { openConsole } from '../vm/console/console.ts';
import { openFileRead, openFileWrite } from '../vm/guest-agent/file-streams.ts';
import { openSubscription } from '../vm/guest-ports/subscription-stream.ts';
import { openVmLog } from '../vm/logs/vm-logs.ts';
import type { Policy } from './policy.ts';

/** What a stream of the line is joined to. */
export interface OpenedEnd<M extends AgentStreamName = AgentStreamName> {
  readonly stream: Duplex;
  /** Whether one direction can be closed alone. */
  readonly halfClose: boolean;
  readonly result: Result<M>;
}

type StreamMethods = {
  readonly [M in AgentStreamName]: (params: Params<M>, signal: AbortSignal) => Promise<OpenedEnd<M>>;
};

export function streamMethods(vms: Vms, policy: Policy): StreamMethods {
  return {
    'stream.open': async (params, signal) => {
      policy.checkPort(params.port);
      const { stream, ...result } = await vms.openStream(params, { signal });
      return { stream, halfClose: result.halfClose, result };
    },
    'stream.listen': async (params) => {
      policy.checkListenPort(params.port);
      const { spec, generation } = vms.get(params.vm);
      requireVsock(params, spec);
      return { stream: await openSubscription(vms.guestPorts, params), halfClose: true, result: { generation } };
    },
    'stream.accept': async ({ vm, port, connection }) => {
      const { stream, halfClose, transport, generation } = vms.guestPorts.take(vm, port, connection);
      return { stream, halfClose, result: { transport, halfClose, generation } };
    },
    'guest.readFile': (params, signal) => openFileRead(vms, params, signal),
    'guest.writeFile': (params, signal) => openFileWrite(vms, params, signal),
    'vm.console': async (params, signal) => {
      const { stream, ...result } = await openConsole(vms, params, signal);
      return { stream, halfClose: true, result };
    },
    'vm.logs': async (params) => {
      const { stream, ...result } = await openVmLog(vms, params);
      return { stream, halfClose: true, result };
    },
  };
}

/** @throws FairleadError UNSUPPORTED for a guest that can dial nobody, CONFLICT for the port that has a meaning already */
function requireVsock({ vm, port }: Params<'stream.listen'>, { vsock }: VmSpec): void {
  if (vsock === undefined) throw new FairleadError('UNSUPPORTED', `VM ${vm} cannot dial its host: its spec has no vsock`);
  if (vsock.readyPort !== port) return;
  throw new FairleadError('CONFLICT', `VM ${vm} says on port ${port} that it is ready (readyPort); let it dial another`);
}

export function isStreamMethod(method: unknown): method is AgentStreamName {
  if (typeof method !== 'string' || !isMethodName(method)) return false;
  const { kind, target } = methodContract(method);
  return kind === 'stream' && target === 'agent';
}
