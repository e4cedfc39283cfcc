/**
 * Raw QMP commands that the supervisor of a VM would be undone by: those that Fairlead has a method for, which does more than the command
 * does, and removals of what the supervisor has made. A wildcard of the host's policy does not stand for them.
 */
import { FairleadError } from '../../shared/errors.ts';
import type { VmSpec } from '../../shared/protocol/vm-spec.ts';

/** What to call instead. The owner of the host can allow such a command all the same, by its full name. */
export const REPLACED_COMMANDS: ReadonlyMap<string, string> = new Map([
  ['quit', 'vm.stop'],
  ['stop', 'vm.pause'],
  ['cont', 'vm.resume'],
  ['system_reset', 'vm.reset'],
  ['system_powerdown', 'vm.powerdown'],
  ['migrate', 'vm.migrate'],
  ['migrate_cancel', 'vm.migrateCancel'],
]);

/** Commands that take something away, with the argument that says what. */
const REMOVALS: ReadonlyMap<string, string> = new Map([
  ['device_del', 'id'],
  ['netdev_del', 'id'],
  ['object-del', 'id'],
  ['chardev-remove', 'id'],
  ['chardev-change', 'id'],
  ['blockdev-del', 'node-name'],
  ['blockdev-close-tray', 'id'],
  ['blockdev-open-tray', 'id'],
  ['blockdev-remove-medium', 'id'],
]);

/** Of every VM; `ID-…` is part of ID. */
const OWN_IDS = [
  'qmp',
  'monitor',
  'trail',
  'console',
  'ram0',
  'vmem0',
  'vsock0',
  'rng0',
  'balloon0',
  'pvpanic0',
  'vmgenid0',
  'agent0',
];

/** @throws FairleadError PERMISSION_DENIED for a removal of what Fairlead itself has given the VM. */
export function checkRemoval(command: string, args: Readonly<Record<string, unknown>> | undefined, specOf: () => VmSpec): void {
  const argument = REMOVALS.get(command);
  const named = argument === undefined ? undefined : args?.[argument];
  if (typeof named !== 'string') return;
  const spec = specOf();
  const own = [...OWN_IDS, ...[...spec.disks, ...spec.networks].map(({ id }) => id)];
  const refuse = (why: string): never => {
    const message = `QMP command ${command} may not be sent to VM ${spec.name} for ${named}: ${why}`;
    throw new FairleadError('PERMISSION_DENIED', message, { details: { vm: spec.name, command, id: named } });
  };
  // QEMU's tree has many paths to a device, over buses and ports, and takes a path with slashes to spare.
  if (named.includes('/')) refuse('by a path it cannot be told whose it is: name it by its id');
  const isOwn = own.some((name) => named === name || named.startsWith(`${name}-`));
  if (isOwn) refuse("it is of the VM's own, and Fairlead counts on it; use the methods that attach and detach");
}
