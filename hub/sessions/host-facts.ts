/** What a host can do, as it says itself when it connects; kept for the time in which it is away. */
import * as v from 'valibot';
import type { JsonRpcPeer } from '../../shared/jsonrpc/peer.ts';
import { Count } from '../../shared/protocol/common.ts';
import type { HostCapabilities } from '../../shared/protocol/methods-fleet.ts';
import { HOSTS } from '../store/records.ts';
import type { Store } from '../store/store.ts';

/** Shown in each list of hosts: one that says much would leave no room for the others. */
const Word = v.pipe(v.string(), v.maxLength(64));

/** What is needed of `host.info`; a newer agent may say more. */
const Info = v.object({
  architecture: Word,
  cpus: Count,
  memoryBytes: Count,
  qemu: v.object({ version: v.optional(Word) }),
  kvm: v.object({ available: v.boolean() }),
  vsock: v.object({ available: v.boolean() }),
});

/** @throws FairleadError what the call ends with, STORAGE_FAILED; ValiError when it is no answer */
export async function learnFacts(store: Store, host: string, peer: JsonRpcPeer): Promise<void> {
  const { architecture, cpus, memoryBytes, qemu, kvm, vsock } = v.parse(Info, await peer.call('host.info', {}));
  const capabilities: HostCapabilities = {
    architecture,
    cpus,
    memoryBytes,
    ...(qemu.version === undefined ? {} : { qemuVersion: qemu.version }),
    kvm: kvm.available,
    vsock: vsock.available,
  };
  await store.collection(HOSTS).modify(host, (state) => {
    const isKnown = JSON.stringify(state.capabilities) === JSON.stringify(capabilities);
    return isKnown ? undefined : { ...state, capabilities };
  });
}
