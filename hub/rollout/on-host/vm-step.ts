/**
 * Changing VMs: each that the step names is stopped, given the patched spec, and started if it ran. Taking it back is the same with the spec that
 * was recorded. A VM that came after the recording is not touched.
 *
 * Every command in it may be repeated: what is stopped stays so, a spec replaces a spec, what runs is running.
 */
import * as v from 'valibot';
import { canonicalJson } from '../../../shared/canonical-json.ts';
import { FairleadError, type JsonObject, type JsonValue } from '../../../shared/errors.ts';
import { Name } from '../../../shared/protocol/common.ts';
import { parseWith } from '../../../shared/protocol/parse-with.ts';
import type { Step } from '../../../shared/protocol/rollout-spec.ts';
import type { HostCommands } from './host-commands.ts';
import { mergePatch } from './merge-patch.ts';

type VmStep = Extract<Step, { kind: 'vm' }>;

const Spec = v.custom<JsonObject>((value) => typeof value === 'object' && value !== null && !Array.isArray(value));
/** As much of a VM as is needed; a newer agent may say more. */
const Vm = v.object({
  name: Name,
  state: v.pipe(v.string(), v.maxLength(64)),
  ready: v.boolean(),
  labels: v.record(v.string(), v.string()),
  exit: v.optional(v.object({ at: v.string() })),
  spec: Spec,
});
const VmPage = v.object({ vms: v.array(Vm), next: v.optional(Name) });
export type Vm = v.InferOutput<typeof Vm>;

const RecordedVm = v.strictObject({ name: Name, ran: v.boolean(), spec: Spec });
export const RecordedVms = v.strictObject({ vms: v.array(RecordedVm) });
type RecordedVm = v.InferOutput<typeof RecordedVm>;

const AT_REST: ReadonlySet<string> = new Set(['created', 'stopped', 'crashed']);
const PAGE = 50;
/** Of one host: 100 MiB at most, and far more VMs than one has. */
const MAX_PAGES = 400;

export async function recordVms(step: VmStep, commands: HostCommands): Promise<v.InferOutput<typeof RecordedVms>> {
  const vms = (await listVms(commands)).filter((vm) => isMeant(step, vm));
  return { vms: vms.map(({ name, state, spec }) => ({ name, ran: !AT_REST.has(state), spec })) };
}

export async function changeVms(step: VmStep, place: string, previous: unknown, commands: HostCommands): Promise<void> {
  for (const vm of parseWith(RecordedVms, previous, 'previous', 'INTERNAL').vms) {
    await give(vm, mergePatch(vm.spec, step.patch), { step, place, commands });
  }
}

/** @throws FairleadError WRONG_STATE when a VM has another spec after all */
export async function restoreVms(step: VmStep, place: string, previous: unknown, commands: HostCommands): Promise<void> {
  const { vms } = parseWith(RecordedVms, previous, 'previous', 'INTERNAL');
  for (const vm of vms) await give(vm, vm.spec, { step, place, commands });
  const now = new Map((await listVms(commands)).map((vm) => [vm.name, vm]));
  for (const { name, spec } of vms) {
    if (canonicalJson(now.get(name)?.spec ?? {}) === canonicalJson(spec)) continue;
    throw new FairleadError('WRONG_STATE', `VM ${name} of host ${commands.host} has another spec than was recorded of it`);
  }
}

interface Giving {
  readonly step: VmStep;
  readonly place: string;
  readonly commands: HostCommands;
}

async function give({ name, ran, spec: before }: RecordedVm, spec: JsonValue, { step, place, commands }: Giving): Promise<void> {
  await commands.run(`${place} stop ${name}`, 'vm.stop', { vm: name, graceMs: step.graceMs });
  const isOther = canonicalJson(spec) !== canonicalJson(before) || Object.keys(step.patch).length > 0;
  if (isOther) await commands.run(`${place} redefine ${name}`, 'vm.redefine', { vm: name, spec });
  if (ran) await commands.run(`${place} start ${name}`, 'vm.start', { vm: name });
}

export async function listVms(commands: Pick<HostCommands, 'ask' | 'host'>): Promise<Vm[]> {
  const vms: Vm[] = [];
  let after: string | undefined;
  let pages = 0;
  do {
    if (++pages > MAX_PAGES)
      throw new FairleadError('LIMIT_EXCEEDED', `host ${commands.host} lists more than ${MAX_PAGES} pages of VMs`);
    const params = { limit: PAGE, ...(after === undefined ? {} : { after }) };
    const page = parseWith(VmPage, await commands.ask('vm.list', params), 'vm.list', 'PROTOCOL_ERROR');
    vms.push(...page.vms);
    after = page.next;
  } while (after !== undefined);
  return vms;
}

export function isMeant({ vms: { names, labels } }: VmStep, vm: Pick<Vm, 'name' | 'labels'>): boolean {
  if (names !== undefined && !names.includes(vm.name)) return false;
  return Object.entries(labels).every(([key, value]) => vm.labels[key] === value);
}
