/** `fairlead vm suspend` and `vm hold`: sleep, and what keeps from it. `vm resume` wakes, and so does whoever connects. */
import type { Command } from 'commander';
import { type App, withHub } from '../app.ts';
import { parseDuration } from '../duration.ts';
import { printVm, vmLines } from '../vm-text.ts';

export function registerVmSuspend(vm: Command, app: App): void {
  vm.command('suspend <vm>')
    .description('save the guest and end its process; whoever connects to it wakes it (needs memory.backing file)')
    .option('--durable', 'answer when its RAM is on the disk, so that it outlives a restart of its host')
    .option('--host <host>', 'the host it is on')
    .action(async (name: string, options: { host?: string; durable?: boolean }, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const durability = options.durable === true ? 'host' : 'process';
        printVm(output, (await hub.call('vm.suspend', { vm: name, durability }, options.host)).vm);
      }),
    );

  vm.command('hold <vm> <duration>')
    .description('keep it awake for so long, whatever its idle policy says, and wake it if it is suspended')
    .option('--host <host>', 'the host it is on')
    .action(async (name: string, duration: string, options: { host?: string }, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const held = await hub.call('vm.hold', { vm: name, forMs: parseDuration(duration) }, options.host);
        output.record(held, [...vmLines(held.vm), ['awake until', held.until]], name);
      }),
    );
}
