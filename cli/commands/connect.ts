/**
 * `fairlead connect VM PORT`: joins standard input and output to a port of a guest.
 *
 * Where the transport can close one direction alone, the end of standard input is passed on, and the command ends when the guest has
 * ended too and has taken all input. Where it cannot, the host keeps the end of input back: the command waits for the guest to close, or for
 * `--idle-timeout` without a byte from it. So long, too, input that is a pipe may be silent after the guest has ended.
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
        'once one side has ended, how long to wait for a silent other one: a guest where the transport cannot half-close, or a pipe',
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
            `the ${opened.transport} transport cannot close one direction alone: the end of input is kept back until the guest closes, or for ${seconds} s without a byte from it`,
          );
        }
        const { idleTimeout } = options;
        // A guest that cannot close one direction alone has closed both.
        const turns = opened.halfClose ? { inputIdleMs: idleTimeout } : { guestIdleMs: idleTimeout, inputIdleMs: 0 };
        await joinTerminal(app, stream, turns);
      }),
    );
}
