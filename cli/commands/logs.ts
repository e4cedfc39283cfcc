/** `fairlead logs VM`: what its guest wrote on the serial console, or QEMU's own words. */
import { once } from 'node:events';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { ParamsInput } from '../../shared/protocol/methods.ts';
import { type App, withHub } from '../app.ts';
import { GuestText, isTerminal } from '../guest-text.ts';

interface LogsOptions {
  readonly host?: string;
  readonly follow?: boolean;
  readonly tail: number | 'all';
  readonly source: NonNullable<ParamsInput<'vm.logs'>['source']>;
}

const DEFAULT_LINES = 1000;

export function registerLogs(program: Command, app: App): void {
  program
    .command('logs')
    .description('read a log of a VM, whether it runs or not')
    .argument('<vm>', 'name of the VM')
    .option('--host <host>', 'the host that the VM is on')
    .option('-f, --follow', 'go on with what is written, over restarts, until the VM is deleted')
    .addOption(new Option('-n, --tail <lines>', 'so many lines from the end, or all').argParser(parseTail).default(DEFAULT_LINES))
    .addOption(new Option('--source <source>', 'which log').choices(['console', 'qemu']).default('console'))
    .action(async (vm: string, { host, follow = false, tail, source }: LogsOptions, command: Command) =>
      withHub(app, command, async ({ hub }) => {
        const params = { vm, source, follow, ...(tail !== 'all' && { tailLines: tail }) };
        const { stream } = await hub.open('vm.logs', params, { host, signal: app.signal });
        const abort = (): void => void stream.destroy();
        app.signal.addEventListener('abort', abort, { once: true });
        try {
          const { stdout } = app.streams;
          const text = isTerminal(stdout) ? new GuestText() : undefined;
          for await (const chunk of stream) {
            // SAFETY: a stream of the line gives bytes.
            const bytes = chunk as Uint8Array;
            if (!stdout.write(text === undefined ? bytes : text.push(bytes))) await once(stdout, 'drain', { signal: app.signal });
          }
          if (text !== undefined) stdout.write(text.end());
        } catch (error) {
          // Interrupted by the one who follows: that is how it ends.
          if (!app.signal.aborted) throw error;
        } finally {
          app.signal.removeEventListener('abort', abort);
          stream.destroy();
        }
      }),
    );
}

function parseTail(text: string): number | 'all' {
  if (text === 'all') return text;
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('Write a number of lines, or all.');
  return Number(text);
}
