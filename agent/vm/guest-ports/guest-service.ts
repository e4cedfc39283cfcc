/**
 * Services of the host that its guests may dial: `PORT=unix:/path` or `PORT=tcp:HOST:PORT`. Each connection that any guest makes to CID 2
 * on that port is joined to a new one to the address.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { joinDuplex } from '../../../shared/node/join-duplex.ts';
import { parseAddress } from '../../../shared/settings.ts';

export type ServiceAddress = { readonly path: string } | { readonly host: string; readonly port: number };

export interface GuestService {
  /** What guests dial. */
  readonly port: number;
  readonly address: ServiceAddress;
}

const CONNECT_TIMEOUT_MS = 10_000;
const SILENT_MS = 10_000;
const MAX_PORT = 0xffff_fffe;

/** Undefined for what is none. */
export function parseGuestService(text: string): GuestService | undefined {
  const [, digits, kind, rest = ''] = /^(\d{1,10})=(unix|tcp):(.+)$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === undefined || port > MAX_PORT) return undefined;
  if (kind === 'unix') return rest.startsWith('/') && !rest.includes('\0') ? { port, address: { path: rest } } : undefined;
  const address = parseAddress(rest);
  return address === undefined || address.port === 0 ? undefined : { port, address };
}

/** Settles when the connection is over. @throws what ended it early, or kept it from being made; the guest's end is reset then */
export async function serveGuest(
  guest: Duplex,
  { address }: GuestService,
  halfClose: boolean,
  signal: AbortSignal,
): Promise<void> {
  const service = connect({ ...address, allowHalfOpen: true });
  try {
    await connected(service, signal);
    if (!halfClose) endWhenSilent(service, guest);
    await joinDuplex(service, guest, { halfClose });
  } catch (error) {
    service.destroy();
    guest.destroy();
    throw error;
  }
}

/** A guest that cannot be told of the end of one direction is told of the end of both, once it says nothing more itself. */
function endWhenSilent(service: Duplex, guest: Duplex): void {
  let timer: NodeJS.Timeout | undefined;
  guest.on('data', () => timer?.refresh());
  guest.once('close', () => clearTimeout(timer));
  service.once('end', () => {
    timer = setTimeout(() => guest.destroy(), SILENT_MS);
  });
}

async function connected(service: Socket, signal: AbortSignal): Promise<void> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(CONNECT_TIMEOUT_MS)]);
  await once(service, 'connect', { signal: limit });
}
