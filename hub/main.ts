/**
 * `fairlead hub`: the only file of the hub that sees arguments, the environment and signals.
 *
 * Exit codes as in the error table: 0 after SIGTERM or SIGINT, 2 for a wrong configuration, 4 when another hub has the data, 5 when the
 * address cannot be had. A second signal ends at once, with 130. SIGHUP reads the TLS certificate and key again.
 */
import { pino } from 'pino';
import { stringify } from 'yaml';
import { isFairleadError, toFairleadError } from '../shared/errors.ts';
import { ERROR_TABLE } from '../shared/protocol/error-table.ts';
import { type HubCommandLine, hubUsage, readHubCommandLine } from './config.ts';
import { createHub } from './hub.ts';
import { notifySystemd } from './native.ts';

const INTERRUPTED = 130;

export async function runHub(argv: readonly string[]): Promise<number> {
  let command: HubCommandLine;
  try {
    command = readHubCommandLine(argv, process.env);
  } catch (error) {
    return fail(error);
  }
  if (command.help) {
    process.stdout.write(hubUsage());
    return 0;
  }
  if (command.printConfig) {
    process.stdout.write(stringify(command.config));
    return 0;
  }
  // Written in turns of its own and flushed at the end: a log line never holds up a call.
  const destination = pino.destination({ fd: 1, sync: false });
  const logger = pino(
    {
      level: command.config.logLevel,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: ['token', '*.token', 'authorization', '*.authorization'], censor: '(redacted)' },
    },
    destination,
  );
  const hub = createHub(command.config, { logger });
  const signalled = firstSignal();
  try {
    await hub.start();
    using systemd = tellSystemd((reason) => logger.warn({ reason }, 'could not tell systemd'));
    process.on('SIGHUP', () => {
      try {
        hub.reloadTls();
      } catch (error) {
        logger.error({ err: error }, toFairleadError(error).message);
      }
    });
    logger.info({ signal: await signalled }, 'asked to stop');
    systemd.stopping();
    await hub.stop();
    return 0;
  } catch (error) {
    logger.fatal({ err: error }, toFairleadError(error).message);
    return fail(error);
  } finally {
    destination.flushSync();
  }
}

function fail(error: unknown): number {
  const { code, message } = toFairleadError(error);
  process.stderr.write(`fairlead hub: ${message}\n`);
  if (!isFairleadError(error) && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`);
  return ERROR_TABLE[code].exit;
}

/** The first SIGTERM or SIGINT; the second ends the process. */
function firstSignal(): Promise<NodeJS.Signals> {
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals>();
  let isFirst = true;
  const onSignal = (signal: NodeJS.Signals) => {
    if (!isFirst) process.exit(INTERRUPTED);
    isFirst = false;
    resolve(signal);
  };
  process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
  return promise;
}

/** READY now and WATCHDOG at half its time until disposed of; nothing at all where systemd did not start us. */
function tellSystemd(onFailure: (reason: string) => void): Disposable & { stopping(): void } {
  const socketPath = process.env['NOTIFY_SOCKET'];
  const tell = (state: string) => {
    const reason = socketPath === undefined ? undefined : notifySystemd(state, socketPath);
    if (reason !== undefined) onFailure(reason);
  };
  tell('READY=1');
  const watchdogMs = Number(process.env['WATCHDOG_USEC'] ?? 0) / 1000;
  const timer = watchdogMs > 0 ? setInterval(() => tell('WATCHDOG=1'), watchdogMs / 2) : undefined;
  return { stopping: () => tell('STOPPING=1'), [Symbol.dispose]: () => clearInterval(timer) };
}
