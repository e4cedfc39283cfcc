/** Where a request comes from, for limits and logs. */
import type { IncomingMessage } from 'node:http';

/**
 * The peer's address; behind a proxy the last entry of X-Forwarded-For, since that one was written by our proxy and all before it by
 * whoever liked to.
 */
export function remoteAddress(request: IncomingMessage, behindProxy: boolean): string {
  const direct = request.socket.remoteAddress ?? 'unknown';
  if (!behindProxy) return direct;
  const header = request.headers['x-forwarded-for'];
  const entries = (Array.isArray(header) ? header.join(',') : (header ?? '')).split(',');
  const last = entries.at(-1)?.trim() ?? '';
  return /^[0-9a-fA-F.:]{2,45}$/.test(last) ? last : direct;
}
