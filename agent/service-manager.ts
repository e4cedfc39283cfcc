/**
 * Tells systemd how the agent is (sd_notify(3)): READY once it runs, WATCHDOG while its event loop turns, STOPPING when it ends for good. Does
 * nothing where no service manager asked for it.
 */
import { loadNative } from '../native/index.ts';
import type { Logger } from './vm/api.ts';

export interface ServiceManager extends Disposable {
  ready(): void;
  stopping(): void;
}

/** `takesOver`: from another agent below one launcher, whose time before the watchdog this one has begun in the middle of. */
export function notifyServiceManager(
  env: Readonly<Record<string, string | undefined>>,
  logger: Logger,
  { takesOver }: { readonly takesOver: boolean },
): ServiceManager {
  const socketPath = env['NOTIFY_SOCKET'];
  if (socketPath === undefined || socketPath === '') return { ready() {}, stopping() {}, [Symbol.dispose]() {} };
  const tell = (state: string) => {
    const native = loadNative();
    try {
      if (!native.available) throw new Error(native.reason);
      native.api.sdNotify(state, socketPath);
    } catch (error) {
      logger.warn({ state, err: String(error) }, 'service manager could not be told');
    }
  };
  const watchdogMs = watchdogIntervalMs(env);
  let timer: NodeJS.Timeout | undefined;
  const keepAwake = () => {
    if (watchdogMs !== undefined) timer ??= setInterval(tell, watchdogMs, 'WATCHDOG=1').unref();
  };
  if (takesOver && watchdogMs !== undefined) {
    tell('WATCHDOG=1');
    keepAwake();
  }
  return {
    ready: () => {
      tell('READY=1');
      keepAwake();
    },
    stopping: () => tell('STOPPING=1'),
    [Symbol.dispose]: () => clearInterval(timer),
  };
}

/** Half of what the manager allows (sd_watchdog_enabled(3)), if it is this process that it watches. */
function watchdogIntervalMs(env: Readonly<Record<string, string | undefined>>): number | undefined {
  const microseconds = Number(env['WATCHDOG_USEC']);
  const pid = env['WATCHDOG_PID'];
  if (!(microseconds > 0) || (pid !== undefined && pid !== String(process.pid))) return undefined;
  return Math.max(1, microseconds / 2000);
}
