/**
 * The contract: one table of every method. Types, validation, the OpenRPC document, the command line's help and the reference pages
 * come from it.
 *
 * A method with `target: 'agent'` runs on a host. Operators call it with one field more, `host`, which the hub takes out before it sends
 * the call on; left out, the hub finds the host by the VM's name or takes the only one. `kind: 'stream'` marks a method that is called
 * by an OPEN frame of the mux instead of a request: the frame's meta is `{method, params}`, the result is the meta of OPEN_OK.
 */
import * as v from 'valibot';
import { Name } from './common.ts';
import type { MethodContract } from './contract.ts';
import { AGENT_METHODS } from './methods-agent.ts';
import { COMMAND_METHODS } from './methods-command.ts';
import { CONSOLE_METHODS } from './methods-console.ts';
import { DESIRED_METHODS } from './methods-desired.ts';
import { DEVICE_METHODS } from './methods-devices.ts';
import { DISK_IMAGE_METHODS } from './methods-disk-images.ts';
import { EVENT_METHODS } from './methods-event.ts';
import { FLEET_METHODS } from './methods-fleet.ts';
import { GUEST_METHODS } from './methods-guest.ts';
import { GUEST_FILE_METHODS } from './methods-guest-files.ts';
import { HOST_METHODS } from './methods-host.ts';
import { HUB_METHODS } from './methods-hub.ts';
import { IMAGE_METHODS } from './methods-image.ts';
import { MEMORY_METHODS } from './methods-memory.ts';
import { MIGRATION_METHODS } from './methods-migration.ts';
import { OPERATION_METHODS } from './methods-operation.ts';
import { ROLLOUT_METHODS } from './methods-rollout.ts';
import { SNAPSHOT_METHODS } from './methods-snapshot.ts';
import { STREAM_METHODS } from './methods-streams.ts';
import { SUSPEND_METHODS } from './methods-suspend.ts';
import { TOKEN_METHODS } from './methods-token.ts';
import { VM_METHODS } from './methods-vm.ts';

/** Written out, because the type that would be inferred is too long for the compiler to write it into a declaration. */
export type Methods = typeof HOST_METHODS &
  typeof AGENT_METHODS &
  typeof VM_METHODS &
  typeof SUSPEND_METHODS &
  typeof SNAPSHOT_METHODS &
  typeof OPERATION_METHODS &
  typeof MEMORY_METHODS &
  typeof MIGRATION_METHODS &
  typeof DEVICE_METHODS &
  typeof DISK_IMAGE_METHODS &
  typeof GUEST_METHODS &
  typeof GUEST_FILE_METHODS &
  typeof CONSOLE_METHODS &
  typeof STREAM_METHODS &
  typeof HUB_METHODS &
  typeof IMAGE_METHODS &
  typeof FLEET_METHODS &
  typeof EVENT_METHODS &
  typeof COMMAND_METHODS &
  typeof DESIRED_METHODS &
  typeof ROLLOUT_METHODS &
  typeof TOKEN_METHODS;

export const METHODS: Methods = {
  ...HOST_METHODS,
  ...AGENT_METHODS,
  ...VM_METHODS,
  ...SUSPEND_METHODS,
  ...SNAPSHOT_METHODS,
  ...OPERATION_METHODS,
  ...MEMORY_METHODS,
  ...MIGRATION_METHODS,
  ...DEVICE_METHODS,
  ...DISK_IMAGE_METHODS,
  ...GUEST_METHODS,
  ...GUEST_FILE_METHODS,
  ...CONSOLE_METHODS,
  ...STREAM_METHODS,
  ...HUB_METHODS,
  ...IMAGE_METHODS,
  ...FLEET_METHODS,
  ...EVENT_METHODS,
  ...COMMAND_METHODS,
  ...DESIRED_METHODS,
  ...ROLLOUT_METHODS,
  ...TOKEN_METHODS,
} satisfies Record<string, MethodContract>;

export type MethodName = keyof Methods;
export type AgentMethodName = { [M in MethodName]: Methods[M]['target'] extends 'agent' ? M : never }[MethodName];
/** Called by an OPEN frame. */
export type StreamMethodName = { [M in MethodName]: Methods[M]['kind'] extends 'stream' ? M : never }[MethodName];
/** Those of them that end at a host, and not at the hub. */
export type AgentStreamName = Extract<StreamMethodName, AgentMethodName>;
/** Called, and answered by the hub itself. */
export type HubMethodName = Exclude<MethodName, AgentMethodName | StreamMethodName>;

/** Params as a handler gets them: validated, defaults filled in. */
export type Params<M extends MethodName> = v.InferOutput<Methods[M]['params']>;
/** Params as a caller may write them. */
export type ParamsInput<M extends MethodName> = v.InferInput<Methods[M]['params']>;
export type Result<M extends MethodName> = v.InferOutput<Methods[M]['result']>;

/** What an operator adds to an agent method's params. */
export const HostSelector = v.optional(Name);

const NAMES: ReadonlySet<string> = new Set(Object.keys(METHODS));

export function isMethodName(name: string): name is MethodName {
  return NAMES.has(name);
}

export function methodContract(name: MethodName): MethodContract {
  return METHODS[name];
}
