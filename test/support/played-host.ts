/** A host whose agent is real, with its journal and its fences, and whose VMs are played. */
import { join } from 'node:path';
import * as v from 'valibot';
import { createAgent } from '../../agent/agent.ts';
import { parseAgentConfig } from '../../agent/config.ts';
import { HostFaults, SimScript } from '../../agent/sim/script.ts';
import { SimVms } from '../../agent/sim/sim-vms.ts';
import { silent } from './vm.ts';

export interface PlayedHost extends AsyncDisposable {
  readonly name: string;
  readonly vms: SimVms;
  readonly stateDir: string;
}

/** Its zone is the first letter of its name; it has one VM, `vm-1`, that runs, or the VMs that an agent before this one has left. */
export async function startPlayedHost(
  hub: string,
  name: string,
  options: { directory: string; token: string; tookMs?: number; vms?: SimVms },
): Promise<PlayedHost> {
  const { directory, token, vms = playedVms(name, options.tookMs) } = options;
  const { labels } = hostOf(name);
  const stateDir = join(directory, name);
  const config = parseAgentConfig({
    hub,
    host: name,
    token,
    labels,
    stateDir,
    httpListen: 'off',
    vsock: 'off',
    maxBackoff: 50,
    drainTimeout: 0,
  });
  const agent = createAgent({ config, logger: silent, searchPath: '', openVms: async () => vms });
  await agent.start();
  return { name, vms, stateDir, [Symbol.asyncDispose]: () => agent.stop() };
}

function hostOf(name: string): { name: string; labels: Record<string, string> } {
  return { name, labels: { zone: name.slice(0, 1) } };
}

function playedVms(name: string, tookMs = 0): SimVms {
  const host = hostOf(name);
  const faults = new HostFaults(v.parse(SimScript, { operation: { min: tookMs, max: tookMs + 1 } }), host);
  return new SimVms({
    host,
    count: 1,
    maxVms: 10,
    faults,
    now: () => performance.now(),
    onOperation: () => {},
    logger: silent,
  });
}
