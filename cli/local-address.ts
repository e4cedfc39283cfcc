/** Addresses of this machine on the command line: a port of loopback, `ADDRESS:PORT`, or the path of a unix socket. */
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { type AddressInfo, connect, type Server, type Socket } from 'node:net';
import { InvalidArgumentError } from 'commander';
import { FairleadError } from '../shared/errors.ts';
import { parsePort } from './port.ts';

export type LocalAddress = { readonly host: string; readonly port: number } | { readonly path: string };

const LOOPBACK = '127.0.0.1';
/** Whoever may not be the owner of the socket may not use it. */
const OWNER_ONLY = 0o177;

/** `8080`, `0.0.0.0:8080`, `[::1]:8080`, `/run/web.sock`. @throws InvalidArgumentError */
export function parseLocalAddress(text: string): LocalAddress {
  if (text.includes('/')) return { path: text };
  const [, bracketed, plain, digits] = /^(?:(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):)?(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === undefined || port > 65_535) {
    throw new InvalidArgumentError(`${JSON.stringify(text)} is no address: write PORT, ADDRESS:PORT or /PATH.`);
  }
  return { host: bracketed ?? plain ?? LOOPBACK, port };
}

/** `LOCAL:PORT`, where LOCAL is a local address. @throws InvalidArgumentError */
export function parseForward(text: string): { readonly local: LocalAddress; readonly port: number } {
  const at = text.lastIndexOf(':');
  if (at < 1) throw new InvalidArgumentError(`${JSON.stringify(text)} says not where from and where to: write LOCAL:PORT.`);
  return { local: parseLocalAddress(text.slice(0, at)), port: parsePort(text.slice(at + 1)) };
}

/** Where it listens, in words. A socket that nobody listens on any more is replaced. @throws FairleadError CONFLICT, CONNECT_FAILED */
export async function listenLocally(server: Server, local: LocalAddress): Promise<string> {
  if ('path' in local) await removeStale(local.path);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  const mask = process.umask(OWNER_ONLY);
  try {
    server.listen(local, resolve);
  } finally {
    process.umask(mask);
  }
  try {
    await promise;
  } catch (cause) {
    const where = 'path' in local ? local.path : addressText(local);
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new FairleadError('CONNECT_FAILED', `could not listen on ${where}: ${reason}`, { cause });
  } finally {
    server.removeListener('error', reject);
  }
  if ('path' in local) return local.path;
  // SAFETY: a server that listens on TCP has an address and a port.
  const { address, port } = server.address() as AddressInfo;
  return addressText({ host: address, port });
}

/** @throws FairleadError CONNECT_FAILED */
export async function connectLocally(local: LocalAddress, signal: AbortSignal): Promise<Socket> {
  const socket = connect({ ...local, allowHalfOpen: true });
  try {
    await once(socket, 'connect', { signal });
    return socket;
  } catch (cause) {
    socket.destroy();
    const where = 'path' in local ? local.path : addressText(local);
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new FairleadError('CONNECT_FAILED', `could not connect to ${where}: ${reason}`, { cause });
  }
}

function addressText({ host, port }: { host: string; port: number }): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

async function removeStale(path: string): Promise<void> {
  const probe = connect({ path });
  try {
    await once(probe, 'connect');
  } catch (error) {
    const isStale = error instanceof Error && 'code' in error && error.code === 'ECONNREFUSED';
    if (isStale) await rm(path, { force: true });
    return;
  } finally {
    probe.destroy();
  }
  throw new FairleadError('CONFLICT', `something listens on ${path} already`);
}
