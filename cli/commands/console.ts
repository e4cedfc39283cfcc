/**
 * `fairlead console VM`: the terminal becomes that of the guest's serial console. What the guest writes goes to the terminal as it is, since
 * that is what a console is for; `fairlead logs` shows the same made harmless. Ctrl-] leaves.
 *
 * Without a terminal, standard input goes to the guest, and after its end this ends when the guest has been silent for a while.
 */
import type { Duplex } from 'node:stream';
import type { ReadStream } from 'node:tty';
import type { Command } from 'commander';
import { FairleadError } from '../../shared/errors.ts';
import { type App, outputOf, withHub } from '../app.ts';
import { durationOption } from '../duration.ts';
import { isTerminal } from '../guest-text.ts';
import { IdleTimer } from '../idle-timer.ts';

interface ConsoleOptions {
  readonly host?: string;
  readonly readOnly?: true;
  readonly history: number;
  readonly idleTimeout: number;
}

/** Ctrl-], as in telnet and virsh. */
const ESCAPE = 0x1d;
const DEFAULT_HISTORY_BYTES = 4096;
/** Colours off, cursor shown: a guest may have left them otherwise. */
const RESTORE = '\u001b[0m\u001b[?25h';

export function registerConsole(program: Command, app: App): void {
  program
    .command('console')
    .description("join a VM's serial console")
    .argument('<vm>', 'name of the VM')
    .option('--host <host>', 'the host that the VM is on')
    .option('--read-only', 'watch, and type nothing')
    .option('--history <bytes>', 'how much of what was written before comes first', Number, DEFAULT_HISTORY_BYTES)
    .addOption(
      durationOption(
        '--idle-timeout <duration>',
        'without a terminal: how long to wait for a silent guest after the end of input',
        '2s',
      ),
    )
    .action(async (vm: string, options: ConsoleOptions, command: Command) =>
      withHub(app, command, async ({ hub }) => {
        const { host, history: historyBytes, readOnly = false, idleTimeout } = options;
        const { stream } = await hub.open('vm.console', { vm, historyBytes, readOnly }, { host, signal: app.signal });
        const { stdin } = app.streams;
        const output = outputOf(app, command);
        if (isTty(stdin)) {
          output.say(`joined the console of VM ${vm}; Ctrl-] leaves`);
          const how = await onTerminal(app, stream, stdin);
          output.say(`\n${how === 'left' ? `left the console of VM ${vm}` : `VM ${vm} has ended`}`);
        } else await withoutTerminal(app, stream, readOnly ? undefined : idleTimeout);
      }),
    );
}

function isTty(stdin: NodeJS.ReadableStream): stdin is ReadStream {
  return isTerminal(stdin);
}

async function onTerminal(app: App, stream: Duplex, stdin: ReadStream): Promise<'left' | 'ended'> {
  const left = Promise.withResolvers<'left'>();
  const onInput = (bytes: Uint8Array): void => {
    const at = bytes.indexOf(ESCAPE);
    if (at !== 0) stream.write(at < 0 ? bytes : bytes.subarray(0, at));
    if (at >= 0) left.resolve('left');
  };
  const { stdout } = app.streams;
  stdin.setRawMode(true);
  stdin.on('data', onInput);
  try {
    return await Promise.race([left.promise, shown(app, stream).then(() => 'ended' as const)]);
  } finally {
    stdin.off('data', onInput);
    stdin.setRawMode(false);
    stdin.pause();
    stream.unpipe(stdout);
    stream.destroy();
    if (isTerminal(stdout)) stdout.write(RESTORE);
  }
}

async function withoutTerminal(app: App, stream: Duplex, idleMs: number | undefined): Promise<void> {
  const { stdin, stdout } = app.streams;
  const silent = Promise.withResolvers<void>();
  const onIdle = (error?: FairleadError): void => (error === undefined ? silent.resolve() : silent.reject(error));
  const idle = idleMs === undefined ? undefined : new IdleTimer(stream, { idleMs }, onIdle);
  if (idle !== undefined) {
    stdin.pipe(stream, { end: false });
    stdin.once('end', () => idle.start());
  }
  try {
    await Promise.race([silent.promise, shown(app, stream)]);
  } finally {
    idle?.stop();
    stdin.unpipe(stream);
    stdin.pause();
    stream.unpipe(stdout);
    stream.destroy();
  }
}

/** Settles when the console has ended and all of it is written out; rejects when the stream is reset, or the command interrupted. */
async function shown({ streams, signal }: App, stream: Duplex): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const interrupt = (): void => reject(new FairleadError('CANCELLED', 'the console was interrupted'));
  stream.on('error', reject).once('end', resolve);
  stream.pipe(streams.stdout, { end: false });
  signal.addEventListener('abort', interrupt, { once: true });
  try {
    await promise;
  } finally {
    signal.removeEventListener('abort', interrupt);
  }
}
