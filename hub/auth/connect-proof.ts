/**
 * Checks the proof that an agent sends with its upgrade: a fresh nonce of ours, signed with the key of an enrolled host, for this hub
 * and, where TLS ends here, for this very TLS connection (RFC 9266), so that a proof cannot be carried to another line.
 */
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { verifySignature } from '../../shared/node/host-key.ts';
import {
  CHANNEL_BINDING_BYTES,
  CHANNEL_BINDING_LABEL,
  type ConnectProof,
  connectProofBytes,
  parseAuthorization,
} from '../../shared/protocol/handshake.ts';
import { HOSTS, type HostState } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import type { Challenges } from './challenges.ts';
import { HandshakeRefused, type RefusalReason } from './refused.ts';

export interface ConnectProofContext {
  readonly store: Store;
  readonly challenges: Challenges;
  readonly hubId: string;
  /** Called for a proof that answers no challenge of ours. @throws HandshakeRefused */
  readonly onStranger: () => void;
}

/** The enrolled host that the proof is of. @throws HandshakeRefused */
export async function verifyConnectProof(
  header: string | undefined,
  socket: Socket,
  context: ConnectProofContext,
): Promise<HostState> {
  const proof = parseAuthorization(header);
  if (proof === undefined) {
    context.onStranger();
    throw refused('malformed', 'the authorization header holds no proof of a host key');
  }
  requireFresh(context, proof);
  const bindingBytes = channelBinding(proof, socket);
  const host = (await context.store.collection(HOSTS).get(proof.host))?.value;
  if (host === undefined) throw refused('unknown-host', `host ${proof.host} is not enrolled here; enrol it with a token`);
  const { signature, ...signed } = proof;
  if (!verifySignature(host.publicKey, connectProofBytes(signed, { hubId: context.hubId, bindingBytes }), signature)) {
    throw refused('signature', `the proof is not signed with the key that host ${proof.host} enrolled`);
  }
  return host;
}

function requireFresh({ challenges, onStranger }: ConnectProofContext, proof: ConnectProof): void {
  const check = challenges.take(proof.nonce, proof.expiresAt);
  if (check === 'fresh') return;
  onStranger();
  if (check === 'expired') throw refused('expired', 'the challenge has expired; ask for another');
  throw refused('nonce', 'the challenge is not of this hub, or was used already; ask for another');
}

function channelBinding(proof: ConnectProof, socket: Socket): Uint8Array {
  if (!(socket instanceof TLSSocket)) {
    if (proof.binding === 'none') return new Uint8Array(0);
    const message =
      'the proof is bound to a TLS connection, but TLS does not end in this hub; tell the agent that a proxy is between';
    throw refused('binding', message);
  }
  if (proof.binding === 'none') throw refused('binding', 'the proof is not bound to this TLS connection');
  // @types/node demands a context; RFC 9266 §4 wants none, and from TLS 1.3 on an empty one is the same (RFC 8446 §7.5).
  return socket.exportKeyingMaterial(CHANNEL_BINDING_BYTES, CHANNEL_BINDING_LABEL, Buffer.alloc(0));
}

function refused(reason: RefusalReason, message: string): HandshakeRefused {
  return new HandshakeRefused('UNAUTHENTICATED', reason, message);
}
