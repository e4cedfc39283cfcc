/** `fairlead vm memory`: how much memory a running guest has. */
import type { Command } from 'commander';
import { type App, withHub } from '../app.ts';
import { humanBytes } from '../output.ts';

export function registerVmMemory(vm: Command, app: App): void {
  vm.command('memory <vm> <size>')
    .description('change how much memory a running guest has, such as to 512MiB; the next start has the size of its spec again')
    .option('--no-wait', 'answer once the guest was asked, and not when it has followed')
    .option('--host <host>', 'the host it is on')
    .action(async (name: string, size: string, options: { host?: string; wait: boolean }, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const resized = await hub.call('vm.resizeMemory', { vm: name, bytes: size, wait: options.wait }, options.host);
        const { targetBytes, actualBytes } = resized;
        output.record(resized, [
          ['vm', name],
          ['wanted', humanBytes(targetBytes)],
          ['memory', humanBytes(actualBytes)],
        ]);
      }),
    );
}
