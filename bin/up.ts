/**
 * `fairlead up`: a hub and an agent in one process on this machine, joined by a real line over loopback. For laptops, labs and the demo.
 *
 * It writes the context file that the command line reads, so that every other `fairlead` command on this machine finds the hub. VMs are not
 * ended with it: the next `up` on the same data directory finds them again.
 */
import { closeSync, existsSync, writeSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type Logger, pino } from 'pino';
import { type Agent, createAgent } from '../agent/agent.ts';
import { parseAgentConfig } from '../agent/config.ts';
import { contextPath, writeContext } from '../cli/context.ts';
import { describeFailure, exitCodeOf } from '../cli/failure.ts';
import { artefacts } from '../cli/image/cache.ts';
import { parseHubConfig } from '../hub/config.ts';
import { createHub, type Hub } from '../hub/hub.ts';
import { FairleadError } from '../shared/errors.ts';

/** What `up` says of itself once the agent is connected: one JSON line on `--ready-fd`. */
export interface UpReady {
  readonly hubUrl: string;
  readonly agentUrl: string;
  readonly host: string;
  readonly contextFile: string;
  readonly pid: number;
}

interface UpOptions {
  readonly dataDir: string;
  readonly listen: string;
  readonly agentHttp: string;
  readonly hostName: string;
  readonly logLevel: string;
  readonly readyFd: number | undefined;
}

const USAGE = `usage: fairlead up [options]
  --data-dir DIR       where hub and agent keep their state (default: $XDG_STATE_HOME/fairlead)
  --listen ADDR:PORT   the hub's address (default 127.0.0.1:7080)
  --agent-http WHERE   the agent's health and metrics: ADDR:PORT, unix:/path or off (default 127.0.0.1:7081)
  --host-name NAME     name of this machine at the hub (default: local)
  --log-level LEVEL    debug, info, warn, error, silent (default info); the log goes to standard output
  --ready-fd N         write one JSON line to this descriptor once the agent is connected, and close it
`;

/** Runs until SIGINT or SIGTERM. */
export async function runUp(argv: readonly string[]): Promise<number> {
  let options: UpOptions | 'help';
  try {
    options = readOptions(argv);
  } catch (error) {
    process.stderr.write(`fairlead up: ${error instanceof Error ? error.message : String(error)}\n${USAGE}`);
    return 2;
  }
  if (options === 'help') {
    process.stdout.write(USAGE);
    return 0;
  }
  const interrupted = untilSignal();
  try {
    await using scope = new AsyncDisposableStack();
    const ready = await start(options, scope);
    announce(ready, options.readyFd);
    await interrupted;
    return 0;
  } catch (error) {
    process.stderr.write(`${describeFailure(error)}\n`);
    return exitCodeOf(error);
  }
}

/** Hub, then agent, then the context file; `scope` takes them down in reverse. */
async function start(options: UpOptions, scope: AsyncDisposableStack): Promise<UpReady> {
  const logger = pino({ level: options.logLevel, base: null });
  const hub = createHub(parseHubConfig({ dataDir: join(options.dataDir, 'hub'), listen: options.listen }), {
    logger: logger.child({ part: 'hub' }),
  });
  await hub.start();
  scope.defer(() => hub.stop());

  const { agent, host } = await connectAgent(options, hub, logger.child({ part: 'agent' }));
  scope.use(agent);

  const contextFile = contextPath(process.env);
  await writeContext(contextFile, { hub: hub.address.url, token: await hub.bootstrap.adminToken('fairlead up') });
  return { hubUrl: hub.address.url, agentUrl: agent.httpAddress ?? 'off', host, contextFile, pid: process.pid };
}

/** Resolves when VMs are adopted and the line is up. The enrolment token is used at the first start only. */
async function connectAgent(options: UpOptions, hub: Hub, logger: Logger): Promise<{ agent: Agent; host: string }> {
  const connected = Promise.withResolvers<string>();
  const stateDir = join(options.dataDir, 'agent');
  const config = parseAgentConfig({
    hub: hub.address.url,
    host: options.hostName,
    stateDir,
    runDir: join(options.dataDir, 'run'),
    httpListen: options.agentHttp,
    ...(await enrolToken(hub, stateDir)),
    // Hub, host and files belong to the same person here.
    imageRoots: ['/'],
    ...vhostDaemon(),
  });
  const agent = createAgent({
    config,
    logger,
    searchPath: process.env['PATH'] ?? '',
    onLink: ({ state, host }) => state === 'up' && host !== undefined && connected.resolve(host),
  });
  try {
    await agent.start();
    return { agent, host: await connected.promise };
  } catch (error) {
    await agent.stop();
    throw error;
  }
}

/** Only a host that is not enrolled yet needs one: a new token would make it enrol again. */
async function enrolToken(hub: Hub, stateDir: string): Promise<{ token?: string }> {
  return existsSync(join(stateDir, 'identity.json')) ? {} : { token: await hub.bootstrap.enrolToken() };
}

function vhostDaemon(): { vhostDeviceVsock?: string } {
  const path = artefacts().vhostDeviceVsock;
  return path === undefined ? {} : { vhostDeviceVsock: path };
}

function announce(ready: UpReady, readyFd: number | undefined): void {
  process.stderr.write(
    `fairlead is up: hub ${ready.hubUrl}, agent ${ready.agentUrl}; try \`fairlead host ls\`; Ctrl-C ends it, VMs go on\n`,
  );
  if (readyFd === undefined) return;
  writeSync(readyFd, `${JSON.stringify(ready)}\n`);
  closeSync(readyFd);
}

function readOptions(argv: readonly string[]): UpOptions | 'help' {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      'data-dir': { type: 'string' },
      listen: { type: 'string', default: '127.0.0.1:7080' },
      'agent-http': { type: 'string', default: '127.0.0.1:7081' },
      'host-name': { type: 'string', default: 'local' },
      'log-level': { type: 'string', default: 'info' },
      'ready-fd': { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  const readyFd = values['ready-fd'] === undefined ? undefined : Number(values['ready-fd']);
  if (readyFd !== undefined && !(Number.isInteger(readyFd) && readyFd > 2)) {
    throw new FairleadError('INVALID_PARAMS', `--ready-fd ${values['ready-fd']} is no descriptor above 2`);
  }
  return {
    dataDir: resolve(values['data-dir'] ?? join(process.env['XDG_STATE_HOME'] ?? join(homedir(), '.local', 'state'), 'fairlead')),
    listen: values.listen,
    agentHttp: values['agent-http'],
    hostName: values['host-name'],
    logLevel: values['log-level'],
    readyFd,
  };
}

/** The first signal asks for the end, the second does not wait for it. */
function untilSignal(): Promise<void> {
  const { promise, resolve: asked } = Promise.withResolvers<void>();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      process.once(signal, () => process.exit(130));
      asked();
    });
  }
  return promise;
}
