/** The peers by name. */
import { bpmux } from './bpmux.ts';
import { devTunnelsSsh } from './dev-tunnels-ssh.ts';
import { devTunnelsSshReconnect } from './dev-tunnels-ssh-reconnect.ts';
import { http2 } from './http2.ts';
import type { Peer } from './mux.ts';
import { yamux } from './yamux.ts';

export const PEERS: readonly Peer[] = [devTunnelsSsh, devTunnelsSshReconnect, bpmux, yamux, http2];

export function peerNamed(name: string): Peer {
  const peer = PEERS.find((candidate) => candidate.name === name);
  if (peer === undefined) throw new Error(`there is no peer ${name}`);
  return peer;
}
