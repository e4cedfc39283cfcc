/** Ports on the command line: of a guest's vsock, and of this machine. */
import { InvalidArgumentError } from 'commander';

const MAX_VSOCK_PORT = 0xffff_fffe;

/** @throws InvalidArgumentError */
export function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d{1,10}$/.test(text) || port > MAX_VSOCK_PORT)
    throw new InvalidArgumentError(`${text} is no vsock port: write a number from 0 to ${MAX_VSOCK_PORT}.`);
  return port;
}
