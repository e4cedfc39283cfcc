/** The real agent whose only VM is a unix socket: everything from the line to the joined stream is the product's own, and no QEMU is needed. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { createAgent } from '../../../agent/agent.ts';
import { parseAgentConfig } from '../../../agent/config.ts';
import type { Logger, Vms } from '../../../agent/vm/api.ts';
import { EventLog } from '../../../agent/vm/events.ts';
import { GuestPorts } from '../../../agent/vm/guest-ports/guest-ports.ts';
import { FairleadError } from '../../../shared/errors.ts';
import { endWithBenchmark, programArgs, tell } from '../../programs.ts';

const { hub, token, host, stateDir, path } = programArgs<{
  hub: string;
  token: string;
  host: string;
  stateDir: string;
  path: string;
}>();

function refuse(): never {
  throw new FairleadError('UNSUPPORTED', 'this agent has a sink and no VMs');
}

const refuseLater = async (): Promise<never> => refuse();

const logger: Logger = {
  debug() {},
  info() {},
  warn() {},
  error: (fields, message) => void process.stderr.write(`agent: ${message} ${JSON.stringify(fields)}\n`),
};

const vms: Vms = {
  events: new EventLog(),
  broken: [],
  limitedBy: [],
  fileOwner: undefined,
  guestPorts: new GuestPorts({ services: [], maxStreamsPerVm: 0, logger }),
  checkFiles: async () => {},
  list: () => [],
  async openStream() {
    const stream = connect({ path, allowHalfOpen: true });
    await once(stream, 'connect');
    return { stream, transport: 'vhost-user', halfClose: true, generation: 1 };
  },
  get: refuse,
  capabilities: refuse,
  create: refuseLater,
  start: refuseLater,
  run: refuseLater,
  pause: refuseLater,
  resume: refuseLater,
  restore: refuseLater,
  atRest: refuseLater,
  suspend: refuseLater,
  hold: refuseLater,
  reset: refuseLater,
  powerdown: refuseLater,
  stop: refuseLater,
  delete: refuseLater,
  qmp: refuseLater,
  operate: refuseLater,
  args: refuseLater,
  openLog: refuseLater,
  hostInfo: refuseLater,
  close: async () => {},
  [Symbol.asyncDispose]: async () => {},
};

endWithBenchmark();
const agent = createAgent({
  config: parseAgentConfig({ hub, token, host, stateDir, vsock: 'off', httpListen: 'off', insecure: true }),
  logger,
  searchPath: '',
  openVms: async () => vms,
  onLink: ({ state }) => state === 'up' && tell({ connected: true }),
});
await agent.start();
