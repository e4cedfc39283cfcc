/** What the hub asks of the add-on for itself; without it, it goes on without. */
import { loadNative } from '../native/index.ts';

/** Tells systemd (sd_notify(3)); `socketPath` is what NOTIFY_SOCKET says. Returns why it could not, if so. */
export function notifySystemd(state: string, socketPath: string): string | undefined {
  const native = loadNative();
  if (!native.available) return native.reason;
  try {
    native.api.sdNotify(state, socketPath);
    return undefined;
  } catch (error) {
    return String(error);
  }
}
