/** `fairlead vm migrate` and `fairlead vm migration`: send a VM to another QEMU, and see how far it is. */
import type { Command } from 'commander';
import type { Migration } from '../../shared/protocol/methods-migration.ts';
import { type App, withHub } from '../app.ts';
import { humanBytes, type Output } from '../output.ts';

export function registerVmMigration(vm: Command, app: App): void {
  vm.command('migrate <vm> <uri>')
    .description('send it to a QEMU that waits for it at tcp:HOST:PORT or unix:/PATH; it is paused here once it is there')
    .option('--max-bandwidth <size>', 'bytes a second, such as 100MiB; as fast as it goes by default')
    .option('--no-wait', 'answer once it has begun')
    .option('--host <host>', 'the host it is on')
    .action(
      async (name: string, uri: string, options: { maxBandwidth?: string; wait: boolean; host?: string }, command: Command) =>
        withHub(app, command, async ({ hub, output }) => {
          const params = {
            vm: name,
            uri,
            wait: options.wait,
            ...(options.maxBandwidth !== undefined && { maxBandwidthBytes: options.maxBandwidth }),
          };
          printMigration(output, name, await hub.call('vm.migrate', params, options.host));
        }),
    );

  vm.command('migration <vm>')
    .description('how far its migration is, or how the last one ended')
    .option('--wait', 'until it has ended')
    .option('--cancel', 'cancel it; the VM goes on here')
    .option('--host <host>', 'the host it is on')
    .action(async (name: string, options: { wait?: boolean; cancel?: boolean; host?: string }, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const method = options.cancel === true ? 'vm.migrateCancel' : options.wait === true ? 'vm.migrateWait' : 'vm.migration';
        printMigration(output, name, await hub.call(method, { vm: name }, options.host));
      }),
    );
}

function printMigration(output: Output, name: string, migration: Migration): void {
  const bytes = (value: number | undefined) => value && humanBytes(value);
  output.record(migration, [
    ['vm', name],
    ['migration', migration.status],
    ['error', migration.error],
    ['transferred', bytes(migration.transferredBytes)],
    ['remaining', bytes(migration.remainingBytes)],
    ['speed', migration.bytesPerSecond && `${humanBytes(migration.bytesPerSecond)}/s`],
    ['time', migration.totalMs && `${migration.totalMs} ms`],
    ['stood still', migration.downtimeMs && `${migration.downtimeMs} ms`],
    ['cannot be migrated', migration.blockedBy.join('; ') || undefined],
  ]);
}
