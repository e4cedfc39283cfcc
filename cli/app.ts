/** What every command gets: the process's streams and environment, and the one connection to the hub, made on first use. */
import type { Command } from 'commander';
import type { WhenOffline } from '../shared/protocol/methods-command.ts';
import { connectHub, type HubConnection } from './connection.ts';
import { type Environment, resolveContext } from './context.ts';
import { Output, type OutputFormat, type Streams } from './output.ts';

/** Options that every command takes. */
export interface GlobalOptions {
  readonly hub?: string;
  readonly token?: string;
  readonly ca?: string;
  readonly output: OutputFormat;
  /** Deadline of each call, milliseconds. */
  readonly timeout: number;
  readonly commandId?: string;
  readonly whenOffline?: WhenOffline;
}

export interface App {
  readonly env: Environment;
  readonly streams: Streams;
  /** Aborted by the first SIGINT or SIGTERM. */
  readonly signal: AbortSignal;
  /** Exit code of a command that ends without an error but not with 0, such as a guest's own. */
  exitCode: number;
}

export interface Session {
  readonly hub: HubConnection;
  readonly output: Output;
  readonly options: GlobalOptions;
}

/** Runs a command's body with a connection that is closed whatever happens. */
export async function withHub(
  app: App,
  command: Command,
  body: (session: Session) => Promise<void>,
  { lasting = false }: { readonly lasting?: boolean } = {},
): Promise<void> {
  const options = globalOptions(command);
  const context = await resolveContext(options, app.env);
  await using hub = await connectHub(context, {
    timeoutMs: options.timeout,
    signal: app.signal,
    commandId: options.commandId,
    whenOffline: options.whenOffline,
    lasting,
  });
  await body({ hub, output: outputOf(app, command), options });
}

export function outputOf(app: App, command: Command): Output {
  return new Output(app.streams, globalOptions(command).output);
}

export function globalOptions(command: Command): GlobalOptions {
  return command.optsWithGlobals<GlobalOptions>();
}
