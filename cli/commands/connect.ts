/**
 * `fairlead connect VM PORT`: joins standard input and output to a port of a guest.
 *
 * Where the transport can close one direction alone, the end of standard input is passed on and the command ends when the guest has
 * closed too. Where it cannot, the end of input is kept here: the command waits for the guest to close, or for `--idle-timeout`
 * without a byte from it.
 */
import type { Command } from 'commander';
import { type App, outputOf, withHub } from '../app.ts';
import { durationOption } from '../duration.ts';
import { joinTerminal } from '../join-terminal.ts';
import { parsePort } from '../port.ts';

interface ConnectOptions {
  readonly host?: string;
  readonly idleTimeout: number;
  readonly connectTimeout: number;
}

export function registerConnect(program: Command, app: App): void {
  program
    .command('connect')
    .description("join standard input and output to a guest's vsock port")
    .argument('<vm>', 'name of the VM')
    .argument('<port>', 'vsock port that something in the guest listens on', parsePort)
    .option('--host <host>', 'the host that the VM is on')
    .addOption(durationOption('--connect-timeout <duration>', 'how long to retry a guest that is not ready', '10s'))
    .addOption(
      durationOption(
        '--idle-timeout <duration>',
        'after the end of input, how long to wait for a silent guest where the transport cannot half-close',
        '10s',
      ),
    )
    .action(async (vm: string, port: number, options: ConnectOptions, command: Command) =>
      withHub(app, command, async ({ hub }) => {
        const params = { vm, port, connectTimeoutMs: options.connectTimeout };
        const { stream, opened } = await hub.openStream(params, { host: options.host, signal: app.signal });
        if (!opened.halfClose) {
          const seconds = options.idleTimeout / 1000;
          outputOf(app, command).say(
            `the ${opened.transport} transport cannot close one direction alone: after the end of input this waits for the guest to close, or for ${seconds} s without a byte from it`,
          );
        }
        await joinTerminal(app, stream, opened.halfClose ? undefined : options.idleTimeout);
      }),
    );
}
