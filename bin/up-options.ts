/** Arguments of `fairlead up` and `fairlead down`. */
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { FairleadError } from '../shared/errors.ts';

export interface UpOptions {
  readonly dataDir: string;
  readonly listen: string;
  readonly agentHttp: string;
  readonly hostName: string;
  readonly logLevel: string;
  readonly background: boolean;
  readonly readyFd: number | undefined;
}

const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'];

export const UP_USAGE = `usage: fairlead up [options]
  --background         go on in the background once the agent is connected; \`fairlead down\` ends it
  --data-dir DIR       where hub and agent keep their state (default: $XDG_STATE_HOME/fairlead)
  --listen ADDR:PORT   the hub's address (default 127.0.0.1:7080)
  --agent-http WHERE   the agent's health and metrics: ADDR:PORT, unix:/path or off (default 127.0.0.1:7081)
  --host-name NAME     name of this machine at the hub (default: local)
  --log-level LEVEL    debug, info, warn, error, silent (default info); the log goes to standard output, or to DIR/up.log
  --ready-fd N         write one JSON line to this descriptor once the agent is connected, and close it
Guests may have every file and network of this machine, unless the agent's variables say otherwise (FAIRLEAD_AGENT_IMAGE_ROOTS and all
others that are not about the line to the hub).
`;

export const DOWN_USAGE = `usage: fairlead down [--data-dir DIR]
Ends what \`fairlead up\` started on the same directory. VMs go on: delete them first, or let the next \`up\` find them.
`;

export function readUpOptions(argv: readonly string[]): UpOptions | 'help' {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      background: { type: 'boolean', default: false },
      'data-dir': { type: 'string' },
      listen: { type: 'string', default: '127.0.0.1:7080' },
      'agent-http': { type: 'string', default: '127.0.0.1:7081' },
      'host-name': { type: 'string', default: 'local' },
      'log-level': { type: 'string', default: 'info' },
      'ready-fd': { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return 'help';
  const readyFd = values['ready-fd'] === undefined ? undefined : Number(values['ready-fd']);
  if (readyFd !== undefined && !(Number.isInteger(readyFd) && readyFd > 2)) {
    throw new FairleadError('INVALID_PARAMS', `--ready-fd ${values['ready-fd']} is no descriptor above 2`);
  }
  if (!LOG_LEVELS.includes(values['log-level'])) {
    throw new FairleadError('INVALID_PARAMS', `--log-level ${values['log-level']} is none of ${LOG_LEVELS.join(', ')}`);
  }
  return {
    dataDir: dataDirOf(values['data-dir']),
    listen: values.listen,
    agentHttp: values['agent-http'],
    hostName: values['host-name'],
    logLevel: values['log-level'],
    background: values.background,
    readyFd,
  };
}

export function readDownOptions(argv: readonly string[]): { dataDir: string } | 'help' {
  const { values } = parseArgs({
    args: [...argv],
    options: { 'data-dir': { type: 'string' }, help: { type: 'boolean', short: 'h', default: false } },
  });
  return values.help ? 'help' : { dataDir: dataDirOf(values['data-dir']) };
}

function dataDirOf(flag: string | undefined): string {
  return resolve(flag ?? join(process.env['XDG_STATE_HOME'] ?? join(homedir(), '.local', 'state'), 'fairlead'));
}
