/** The operators' command: its verbs, its global options, and what becomes of errors. */
import { Command, CommanderError, Option } from 'commander';
import { VERSION } from '../shared/node/version.ts';
import type { App } from './app.ts';
import { OutputWatch } from './broken-output.ts';
import { registerConnect } from './commands/connect.ts';
import { registerConsole } from './commands/console.ts';
import { registerCp } from './commands/cp.ts';
import { registerDoctor } from './commands/doctor.ts';
import { registerEvents } from './commands/events.ts';
import { registerExec } from './commands/exec.ts';
import { registerFleet } from './commands/fleet.ts';
import { registerForward } from './commands/forward.ts';
import { registerGuest } from './commands/guest.ts';
import { registerHost } from './commands/host.ts';
import { registerImage } from './commands/image.ts';
import { registerListen } from './commands/listen.ts';
import { registerLogs } from './commands/logs.ts';
import { registerOp } from './commands/op.ts';
import { registerProxy } from './commands/proxy.ts';
import { registerRelease } from './commands/release.ts';
import { registerRollout } from './commands/rollout.ts';
import { registerRpc } from './commands/rpc.ts';
import { registerSnapshot } from './commands/snapshot.ts';
import { registerSsh } from './commands/ssh.ts';
import { registerToken } from './commands/token.ts';
import { registerVm } from './commands/vm.ts';
import { parseTimeout } from './duration.ts';
import { describeFailure, exitCodeOf } from './failure.ts';
import { OUTPUT_FORMATS, type Streams } from './output.ts';

const USAGE_EXIT_CODE = 2;
const INTERRUPTED_EXIT_CODE = 130;
const DEFAULT_TIMEOUT_MS = 60_000;

/** Runs one command. Returns its exit code; the caller sets it, so that output still on its way is not lost. */
export async function runCli(argv: readonly string[]): Promise<number> {
  const interruption = new AbortController();
  const interrupt = (): void => interruption.abort();
  process.once('SIGINT', interrupt);
  process.once('SIGTERM', interrupt);
  const output = new OutputWatch(interrupt);
  const streams = new ProcessStreams();
  const app: App = { env: process.env, streams, signal: interruption.signal, exitCode: 0 };
  try {
    await buildProgram(app).parseAsync(argv, { from: 'user' });
    return output.exitCode ?? app.exitCode;
  } catch (error) {
    if (output.exitCode !== undefined) return output.exitCode;
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE_EXIT_CODE;
    if (interruption.signal.aborted) return INTERRUPTED_EXIT_CODE;
    process.stderr.write(`${describeFailure(error)}\n`);
    return exitCodeOf(error);
  } finally {
    streams.leaveInput();
    process.removeListener('SIGINT', interrupt);
    process.removeListener('SIGTERM', interrupt);
  }
}

/** Input that a command did not read to its end, because it failed or was interrupted, would keep the process waiting for more. */
class ProcessStreams implements Streams {
  readonly stdout = process.stdout;
  readonly stderr = process.stderr;
  #stdin: typeof process.stdin | undefined;

  get stdin(): typeof process.stdin {
    this.#stdin ??= process.stdin;
    return this.#stdin;
  }

  leaveInput(): void {
    this.#stdin?.destroy();
  }
}

function buildProgram(app: App): Command {
  const program = new Command('fairlead')
    .description('Run QEMU virtual machines on hosts that nobody can dial into.')
    .version(VERSION)
    .option('--hub <url>', 'the hub, such as wss://hub.example.org (FAIRLEAD_HUB)')
    .option('--token <token>', 'operator token (FAIRLEAD_TOKEN keeps it out of the process list)')
    .option('--ca <file>', "certificate to check the hub's against (FAIRLEAD_CA)")
    .addOption(
      new Option('--timeout <duration>', 'deadline of each call, 0 for none')
        .argParser(parseTimeout)
        .default(DEFAULT_TIMEOUT_MS, '1m'),
    )
    .option('--command-id <id>', 'id of the command: the same one again is answered, and not run twice')
    .addOption(
      new Option('--when-offline <what>', 'of a command whose host is away: fail, or queue it until --timeout').choices([
        'fail',
        'queue',
      ]),
    )
    .addOption(new Option('-o, --output <format>', 'what is printed').choices(OUTPUT_FORMATS).default('table'))
    .exitOverride()
    .showHelpAfterError('(add --help for what it takes)')
    .configureHelp({ sortSubcommands: true, showGlobalOptions: true });
  addForeignVerbs(program);
  for (const register of [
    registerHost,
    registerVm,
    registerSnapshot,
    registerRelease,
    registerRollout,
    registerToken,
    registerConnect,
    registerCp,
    registerForward,
    registerListen,
    registerProxy,
    registerSsh,
    registerExec,
    registerGuest,
    registerConsole,
    registerLogs,
    registerRpc,
    registerEvents,
    registerFleet,
    registerOp,
    registerImage,
    registerDoctor,
  ]) {
    register(program, app);
  }
  inheritSettings(program);
  return program;
}

/** Verbs that the executable's entry hands to hub and agent before this program is built: here only so that help names them. */
function addForeignVerbs(program: Command): void {
  program.command('up').description('run a hub and an agent on this machine (see `fairlead up --help`)');
  program.command('down').description('end what `fairlead up --background` started');
  program.command('hub').description('run the hub (see `fairlead hub --help`)');
  program.command('agent').description('run the agent of this host (see `fairlead agent --help`)');
  program.command('launch').description('run the agent of this host, so that it can be updated (see `fairlead launch --help`)');
  program.command('sim').description('connect a simulated fleet to a hub, to rehearse (see `fairlead sim --help`)');
}

/** Subcommands report errors as the program does, and read global options wherever they stand. */
function inheritSettings(parent: Command): void {
  for (const child of parent.commands) {
    child.copyInheritedSettings(parent);
    inheritSettings(child);
  }
}
