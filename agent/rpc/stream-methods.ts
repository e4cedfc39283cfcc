/** Methods that are called by opening a stream: policy first, then the stream at this end and the answer that opens it at the other. */
import type { Duplex } from 'node:stream';
import { isMethodName, methodContract, type Params, type Result, type StreamMethodName } from '../../shared/protocol/methods.ts';
import type { Vms } from '../vm/api.ts';
import { openConsole } from '../vm/console/console.ts';
import { openVmLog } from '../vm/logs/vm-logs.ts';
import type { Policy } from './policy.ts';

/** What a stream of the line is joined to. */
export interface OpenedEnd<M extends StreamMethodName = StreamMethodName> {
  readonly stream: Duplex;
  /** Whether one direction can be closed alone. */
  readonly halfClose: boolean;
  readonly result: Result<M>;
}

type StreamMethods = {
  readonly [M in StreamMethodName]: (params: Params<M>, signal: AbortSignal) => Promise<OpenedEnd<M>>;
};

export function streamMethods(vms: Vms, policy: Policy): StreamMethods {
  return {
    'stream.open': async (params, signal) => {
      policy.checkPort(params.port);
      const { stream, ...result } = await vms.openStream(params, { signal });
      return { stream, halfClose: result.halfClose, result };
    },
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

export function isStreamMethod(method: unknown): method is StreamMethodName {
  return typeof method === 'string' && isMethodName(method) && methodContract(method).kind === 'stream';
}
