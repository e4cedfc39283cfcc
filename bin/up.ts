/**
 * `fairlead up`: a hub and an agent in one process on this machine, joined by a real line over loopback. For laptops, labs and the demo.
 *
 * It writes the context file that the command line reads, so that every other `fairlead` command on this machine finds the hub. VMs are not
 * ended with it: the next `up` on the same data directory finds them again.
 */
import { closeSync, existsSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type Logger, pino } from 'pino';
import { type Agent, createAgent } from '../agent/agent.ts';
import { AGENT_SETTINGS_SOURCE, parseAgentConfig } from '../agent/config.ts';
import { contextPath, removeContext, writeContext } from '../cli/context.ts';
import { describeFailure, exitCodeOf } from '../cli/failure.ts';
import { artefacts } from '../cli/image/cache.ts';
import { parseHubConfig } from '../hub/config.ts';
import { createHub, type Hub } from '../hub/hub.ts';
import { readSettings } from '../shared/node/settings-source.ts';
import { startInBackground } from './up-background.ts';
import { readUpOptions, UP_USAGE, type UpOptions } from './up-options.ts';
import { refuseSecondUp, removeUpState, type UpReady, writeUpState } from './up-state.ts';

/** Runs until SIGINT or SIGTERM. */
export async function runUp(argv: readonly string[]): Promise<number> {
  let options: UpOptions | 'help';
  try {
    options = readUpOptions(argv);
  } catch (error) {
    process.stderr.write(`fairlead up: ${error instanceof Error ? error.message : String(error)}\n${UP_USAGE}`);
    return 2;
  }
  if (options === 'help') {
    process.stdout.write(UP_USAGE);
    return 0;
  }
  try {
    await refuseSecondUp(options.dataDir);
    if (options.background) return await runInBackground(options);
    const interrupted = untilSignal();
    await using scope = new AsyncDisposableStack();
    const ready = await start(options, scope);
    scope.defer(() => removeUpState(options.dataDir));
    await writeUpState(options.dataDir, ready);
    announce(ready, options.readyFd);
    await interrupted;
    return 0;
  } catch (error) {
    process.stderr.write(`${describeFailure(error)}\n`);
    return exitCodeOf(error);
  }
}

async function runInBackground({ dataDir, listen, agentHttp, hostName, logLevel }: UpOptions): Promise<number> {
  const args = ['--listen', listen, '--agent-http', agentHttp, '--host-name', hostName, '--log-level', logLevel];
  const up = await startInBackground(dataDir, args, process.env);
  process.stderr.write(
    `fairlead is up: hub ${up.hubUrl}, agent ${up.agentUrl}, log ${up.logPath}; \`fairlead down\` ends it, VMs go on\n`,
  );
  return 0;
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
  const context = { hub: hub.address.url, token: await hub.bootstrap.adminToken('fairlead up') };
  await writeContext(contextFile, context);
  scope.defer(() => removeContext(contextFile, context));
  return { hubUrl: hub.address.url, agentUrl: agent.httpAddress ?? 'off', host, contextFile, pid: process.pid };
}

/**
 * Resolves when VMs are adopted and the line is up. The enrolment token is used at the first start only. What is neither of the line nor of
 * the data directory may be set as any agent's is, by variables.
 */
async function connectAgent(options: UpOptions, hub: Hub, logger: Logger): Promise<{ agent: Agent; host: string }> {
  const connected = Promise.withResolvers<string>();
  const stateDir = join(options.dataDir, 'agent');
  const config = parseAgentConfig({
    // Hub, host and files belong to the same person here.
    imageRoots: ['/'],
    networks: ['*'],
    forwardPorts: ['*'],
    migrationTargets: ['*'],
    ...vhostDaemon(),
    ...readSettings(AGENT_SETTINGS_SOURCE, [], process.env).values,
    hub: hub.address.url,
    host: options.hostName,
    stateDir,
    runDir: join(options.dataDir, 'run'),
    httpListen: options.agentHttp,
    token: await enrolToken(hub, stateDir),
    tokenFile: undefined,
    caFile: undefined,
    behindProxy: false,
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
async function enrolToken(hub: Hub, stateDir: string): Promise<string | undefined> {
  return existsSync(join(stateDir, 'identity.json')) ? undefined : await hub.bootstrap.enrolToken();
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
