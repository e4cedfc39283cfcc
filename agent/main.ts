/** The agent as a program: arguments, environment, signals, exit codes, log. The only file of the agent that touches these. */
import { pino } from 'pino';
import { isFairleadError, toFairleadError } from '../shared/errors.ts';
import { VERSION } from '../shared/node/version.ts';
import { ERROR_TABLE } from '../shared/protocol/error-table.ts';
import { type Agent, createAgent } from './agent.ts';
import { type AgentConfig, redactConfig } from './config.ts';
import { type AgentCommandLine, agentUsage, readAgentCommandLine } from './config-source.ts';
import { LAUNCHED_VARIABLE } from './launcher/messages.ts';
import type { LinkStatus } from './link/link.ts';
import { notifyServiceManager } from './service-manager.ts';
import { trimMemorySoon } from './trim-memory.ts';
import type { LauncherLine } from './update/launcher-line.ts';
import type { Logger } from './vm/api.ts';

/** Exit codes: 0 ended by a signal in order, 1 could not start or failed, 2 wrong use; by a second signal 128 and its number. */
const EXIT_USAGE = 2;
const SIGNAL_NUMBERS = { SIGINT: 2, SIGTERM: 15 } as const;

/** Runs until a signal ends it. */
export async function runAgent(argv: readonly string[]): Promise<number> {
  let commandLine: AgentCommandLine | 'help';
  try {
    commandLine = readAgentCommandLine(argv, process.env);
  } catch (error) {
    process.stderr.write(`fairlead agent: ${toFairleadError(error).message}\n`);
    return EXIT_USAGE;
  }
  if (commandLine === 'help') {
    process.stdout.write(agentUsage());
    return 0;
  }
  const { config, printConfig } = commandLine;
  if (printConfig) {
    process.stdout.write(`${JSON.stringify(redactConfig(config), undefined, 2)}\n`);
    return 0;
  }
  return serve(config);
}

async function serve(config: AgentConfig): Promise<number> {
  const logger = createLogger(config);
  process.on('uncaughtExceptionMonitor', (error) => logger.error({ err: error.stack }, 'fault: the agent ends, VMs go on'));
  const told = untilSignal(logger);
  const launcher = await openLauncher();
  const left = launcher?.leaving.then((why) => logger.info({ why }, 'agent stops'));
  const ended = left === undefined ? told : Promise.race([told, left]);
  const searchPath = process.env['PATH'] ?? '';
  const onLink = launcher === undefined ? undefined : tellOnce(launcher);
  const agent = createAgent({ config, logger, searchPath, onSpent: trimMemorySoon, launcher, onLink });
  using manager = notifyServiceManager(process.env, logger, { takesOver: launcher !== undefined });
  logger.info({ version: VERSION, pid: process.pid, hub: config.hub }, 'agent starts');
  try {
    await agent.start();
  } catch (error) {
    logger.error(
      { code: isFairleadError(error) ? error.code : undefined },
      `agent did not start: ${toFairleadError(error).message}`,
    );
    return ERROR_TABLE[toFairleadError(error).code].exit;
  }
  manager.ready();
  logger.info({ http: agent.httpAddress }, 'agent runs');
  trimMemorySoon();
  const stopping = new AbortController();
  if (launcher !== undefined) void proveItself(agent, launcher, logger, stopping.signal);
  await ended;
  stopping.abort();
  // For a service manager that watches the launcher, a change of releases is no end.
  if (launcher === undefined) manager.stopping();
  return shutDown(agent, logger);
}

/** Undefined where nobody has begun this process who could begin another release. */
async function openLauncher(): Promise<LauncherLine | undefined> {
  if (process.env[LAUNCHED_VARIABLE] === undefined || process.send === undefined) return undefined;
  const { LauncherLine } = await import('./update/launcher-line.ts');
  return new LauncherLine(process);
}

/** The launcher, of the first line to the hub. */
function tellOnce(launcher: LauncherLine): (status: LinkStatus) => void {
  let isTold = false;
  return ({ state }) => {
    if (state === 'up' && !isTold) launcher.connected();
    isTold ||= state === 'up';
  };
}

/** A release that cannot is ended by its launcher, in its time. */
async function proveItself(agent: Agent, launcher: LauncherLine, logger: Logger, signal: AbortSignal): Promise<void> {
  const trial = await import('./update/trial.ts');
  await trial.proveItself(agent, launcher, signal).catch((error: unknown) => {
    logger.error({ err: String(error) }, 'could not be tried');
  });
}

async function shutDown(agent: Agent, logger: Logger): Promise<number> {
  try {
    await agent.stop();
    logger.info({}, 'agent has stopped, VMs go on');
    return 0;
  } catch (error) {
    logger.error({ err: String(error) }, 'agent did not stop in order');
    return 1;
  }
}

/** The first signal asks, the second ends the process on the spot. */
function untilSignal(logger: Logger): Promise<void> {
  return new Promise((resolve) => {
    let isAsked = false;
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.on(signal, () => {
        if (isAsked) process.exit(128 + SIGNAL_NUMBERS[signal]);
        isAsked = true;
        logger.info({ signal }, 'agent stops');
        resolve();
      });
    }
  });
}

/** One JSON object a line on standard output. */
function createLogger(config: AgentConfig): Logger {
  return pino({
    level: config.logLevel,
    base: { host: config.host },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    redact: { paths: ['token', '*.token', 'authorization', '*.authorization'], censor: '(redacted)' },
  });
}
