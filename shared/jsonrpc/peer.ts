import type { FairleadError, JsonObject } from '../errors.ts';
import type { CallOptions, PeerOptions, PeerStats } from './types.ts';

export class JsonRpcPeer {
  readonly stats: PeerStats = { lateResponses: 0, unknownResponses: 0 };

  constructor(options: PeerOptions) {
    void options;
  }

  /** Calls of ours that await an answer. */
  get pendingCount(): number {
    return 0;
  }

  /** Requests of the other side that run here. */
  get inFlightCount(): number {
    return 0;
  }

  get closed(): boolean {
    return false;
  }

  receive(text: string): void {
    void text;
  }

  call(method: string, params: JsonObject, options: CallOptions = {}): Promise<unknown> {
    void params;
    void options;
    return Promise.reject(new Error(`${method}: not there yet`));
  }

  notify(method: string, params: JsonObject): void {
    void method;
    void params;
  }

  close(error: FairleadError): void {
    void error;
  }
}
