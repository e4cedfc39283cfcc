/** Methods that tell of the host itself. */
import * as v from 'valibot';
import { Count, Labels } from './common.ts';
import type { MethodContract } from './contract.ts';

/** Something a host may lack, and then why. */
const Availability = v.strictObject({ available: v.boolean(), reason: v.optional(v.string()), detail: v.optional(v.string()) });

export const HostInfo = v.strictObject({
  agentVersion: v.string(),
  contractVersion: Count,
  nodeVersion: v.string(),
  hostname: v.string(),
  architecture: v.string(),
  kernel: v.string(),
  bootId: v.string(),
  cpus: Count,
  memoryBytes: Count,
  memoryFreeBytes: Count,
  labels: Labels,
  qemu: v.strictObject({
    available: v.boolean(),
    reason: v.optional(v.string()),
    binary: v.optional(v.string()),
    version: v.optional(v.string()),
    machines: v.optional(v.array(v.string())),
  }),
  kvm: Availability,
  vsock: Availability,
  /** Whether control groups hold VMs to their sizes; `detail` names the controllers. */
  limits: v.optional(Availability),
  /** As whom QEMU runs, where not as the agent. */
  qemuUser: v.optional(v.string()),
});
export type HostInfo = v.InferOutput<typeof HostInfo>;

export const HOST_METHODS = {
  'host.info': {
    target: 'agent',
    kind: 'call',
    since: 1,
    role: 'viewer',
    idempotent: true,
    summary: 'What the host is and can do',
    params: v.strictObject({}),
    result: HostInfo,
    errors: [],
  },
} as const satisfies Record<string, MethodContract>;
