/**
 * `fairlead proxy VM PORT`: standard input and output joined to a guest's port, for programs that start it, such as ssh by its ProxyCommand.
 * It says nothing, and ends as soon as either side does.
 */
import type { Command } from 'commander';
import { type App, withHub } from '../app.ts';
import { durationOption } from '../duration.ts';
import { joinTerminal } from '../join-terminal.ts';
import { parsePort } from '../port.ts';

interface ProxyOptions {
  readonly host?: string;
  readonly connectTimeout: number;
}

export function registerProxy(program: Command, app: App): void {
  program
    .command('proxy')
    .description("join standard input and output to a guest's vsock port, as a program wants it (ssh's ProxyCommand)")
    .argument('<vm>', 'name of the VM')
    .argument('<port>', 'vsock port that something in the guest listens on', parsePort)
    .option('--host <host>', 'the host that the VM is on')
    .addOption(durationOption('--connect-timeout <duration>', 'how long to retry a guest that is not ready', '30s'))
    .action(async (vm: string, port: number, { host, connectTimeout }: ProxyOptions, command: Command) =>
      withHub(app, command, async ({ hub }) => {
        const params = { vm, port, connectTimeoutMs: connectTimeout };
        const { stream, opened } = await hub.openStream(params, { host, signal: app.signal });
        await joinTerminal(app, stream, { guestIdleMs: opened.halfClose ? undefined : 0, inputIdleMs: 0 });
      }),
    );
}
