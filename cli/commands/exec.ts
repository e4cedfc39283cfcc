/**
 * `fairlead exec VM -- CMD…`: runs a program in the guest by its guest agent and ends with the program's own code: 128 and the number
 * of the signal that ended it, 124 when its time was over. What is piped in is its standard input.
 */
import { type Command, InvalidArgumentError } from 'commander';
import { FairleadError } from '../../shared/errors.ts';
import type { Result } from '../../shared/protocol/methods.ts';
import { MAX_EXEC_BYTES } from '../../shared/protocol/methods-guest.ts';
import { type App, withHub } from '../app.ts';
import { durationOption } from '../duration.ts';
import { GuestText, isTerminal } from '../guest-text.ts';
import type { Output } from '../output.ts';
import { pipedInput } from '../piped-input.ts';

interface ExecOptions {
  readonly host?: string;
  readonly env?: Record<string, string>;
  readonly limit: number;
}

const TIMEOUT_EXIT_CODE = 124;
/** On top of the program's own time: the agent has to be reached, and the program killed. */
const CALL_EXTRA_MS = 30_000;

export function registerExec(program: Command, app: App): void {
  program
    .command('exec')
    .description('run a program in a guest that has a guest agent; write -- before it')
    .argument('<vm>', 'name of the VM')
    .argument('<command...>', 'the program and its arguments; no shell is between')
    .option('--host <host>', 'the host that the VM is on')
    .option('-e, --env <name=value>', 'the whole environment of the program (may be repeated)', collectVariables)
    .addOption(durationOption('--limit <duration>', 'kill the program when it has not ended by then', '30s'))
    .action(async (vm: string, words: string[], { host, env, limit }: ExecOptions, command: Command) => {
      const [path = '', ...args] = words;
      const input = (await inputOf(app)).toString('base64');
      const params = { vm, path, args, input, encoding: 'base64', timeoutMs: limit, ...(env !== undefined && { env }) } as const;
      await withHub(app, command, async ({ hub, output }) => {
        const result = await hub.call('guest.exec', params, host, { timeoutMs: limit + CALL_EXTRA_MS });
        show(app, output, result);
      });
    });
}

/** Nothing on a terminal: the agent takes the input whole, before the program starts. */
async function inputOf(app: App): Promise<Buffer> {
  if (isTerminal(app.streams.stdin)) return Buffer.alloc(0);
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of pipedInput(app)) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > MAX_EXEC_BYTES) {
      const todo = 'send more over a stream, with `fairlead connect`';
      throw new FairleadError(
        'INVALID_PARAMS',
        `the input is longer than the ${MAX_EXEC_BYTES} bytes that a program can be given: ${todo}`,
      );
    }
  }
  return Buffer.concat(chunks);
}

function show(app: App, output: Output, result: Result<'guest.exec'>): void {
  app.exitCode = exitCode(result.ended);
  if (output.format !== 'table') return output.record(result, []);
  const { stdout, stderr } = app.streams;
  writeOut(stdout, result.stdout);
  writeOut(stderr, result.stderr);
  const cut = result.stdoutCutBytes + result.stderrCutBytes;
  if (cut > 0)
    output.say(`${cut} bytes of what the program wrote are not shown: the answer holds ${MAX_EXEC_BYTES} of each output`);
  if (result.ended.by !== 'timeout') return;
  const what = result.ended.killed ? 'and was killed' : 'and it is not sure that it could be killed';
  output.say(`the program did not end in time, ${what}`);
}

function writeOut(stream: NodeJS.WritableStream, base64: string): void {
  const bytes = Buffer.from(base64, 'base64');
  if (!isTerminal(stream)) return void stream.write(bytes);
  const text = new GuestText();
  stream.write(text.push(bytes) + text.end());
}

function exitCode(ended: Result<'guest.exec'>['ended']): number {
  if (ended.by === 'exit') return ended.code;
  return ended.by === 'signal' ? 128 + ended.signal : TIMEOUT_EXIT_CODE;
}

function collectVariables(text: string, variables: Record<string, string> = {}): Record<string, string> {
  const split = text.indexOf('=');
  if (split < 1) throw new InvalidArgumentError('Write a variable as NAME=value.');
  return { ...variables, [text.slice(0, split)]: text.slice(split + 1) };
}
