/**
 * `fairlead ssh VM [-- ARGS…]`: the system's ssh, through `fairlead proxy`. The guest needs an SSH server on a vsock port (systemd 256 and
 * later have one on port 22 by themselves).
 *
 * Host keys are kept by the VM's UUID: one that was made anew under an old name is another machine, and no alarm is raised; one that shows
 * another key under the same UUID is refused.
 */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { type Command, Option } from 'commander';
import { FairleadError } from '../../shared/errors.ts';
import { type App, type GlobalOptions, withHub } from '../app.ts';
import { contextPath } from '../context.ts';
import { durationOption } from '../duration.ts';
import { parsePort } from '../port.ts';

interface SshOptions {
  readonly host?: string;
  readonly port: number;
  readonly user?: string;
  readonly knownHosts?: string;
  readonly connectTimeout: number;
}

const SSH_PORT = 22;
const SIGNALLED = 128;

export function registerSsh(program: Command, app: App): void {
  program
    .command('ssh')
    .description("log in to a guest by the system's ssh; write -- before what is ssh's")
    .argument('<vm>', 'name of the VM')
    .argument('[args...]', 'options and a command for ssh')
    .option('--host <host>', 'the host that the VM is on')
    .option('-l, --user <user>', 'the user to log in as')
    .option('--known-hosts <file>', 'where host keys are kept; beside the context file by default')
    .addOption(new Option('--port <port>', "vsock port of the guest's SSH server").argParser(parsePort).default(SSH_PORT))
    .addOption(durationOption('--connect-timeout <duration>', 'how long to retry a guest that is not ready', '30s'))
    .action(async (vm: string, args: string[], options: SshOptions, command: Command) => {
      let arguments_: string[] = [];
      let env: NodeJS.ProcessEnv = {};
      // Not for as long as the login lasts: the proxy has a line of its own.
      await withHub(app, command, async ({ hub, options: global }) => {
        const { uuid } = await hub.call('vm.get', { vm }, options.host);
        const knownHosts = options.knownHosts ?? join(dirname(contextPath(app.env)), 'known_hosts');
        arguments_ = [...sshOptions({ vm, uuid, knownHosts, options }), vm, ...args];
        env = { ...app.env, ...contextVariables(global) };
      });
      app.exitCode = await run('ssh', arguments_, env);
    });
}

function sshOptions(about: { vm: string; uuid: string; knownHosts: string; options: SshOptions }): string[] {
  const { vm, uuid, knownHosts, options } = about;
  const { host, port, user, connectTimeout } = options;
  // The script that this very process runs, so that the same release is at both ends.
  const self = [process.execPath, process.argv[1] ?? 'fairlead'];
  const proxy = [...self, 'proxy', ...(host === undefined ? [] : ['--host', host])];
  const words = [...proxy, '--connect-timeout', `${connectTimeout}ms`, vm, String(port)];
  const settings = {
    ProxyCommand: words.map(proxyWord).join(' '),
    HostKeyAlias: uuid,
    UserKnownHostsFile: `"${knownHosts.replaceAll('%', '%%')}"`,
    StrictHostKeyChecking: 'accept-new',
    CheckHostIP: 'no',
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  return user === undefined ? flags : [...flags, '-l', user];
}

/** ssh expands `%` and gives the line to the user's shell (ssh_config(5), ProxyCommand). */
function proxyWord(word: string): string {
  const expanded = word.replaceAll('%', '%%');
  return /^[A-Za-z0-9_./:@-]+$/.test(expanded) ? expanded : `'${expanded.replaceAll("'", `'\\''`)}'`;
}

/** What was said by flags the proxy is told by its environment: a command line can be read by everybody on the machine. */
function contextVariables({ hub, token, ca }: GlobalOptions): NodeJS.ProcessEnv {
  return {
    ...(hub !== undefined && { FAIRLEAD_HUB: hub }),
    ...(token !== undefined && { FAIRLEAD_TOKEN: token }),
    ...(ca !== undefined && { FAIRLEAD_CA: ca }),
  };
}

/** Its exit code, as a shell would tell it. @throws FairleadError NOT_FOUND */
async function run(program: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const child = spawn(program, args, { stdio: 'inherit', env });
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  child.once('error', (cause) => {
    reject(
      new FairleadError('NOT_FOUND', `could not run ${program}: ${cause.message}; is OpenSSH's client installed?`, { cause }),
    );
  });
  child.once('exit', (code, signal) => resolve(code ?? SIGNALLED + (signal === null ? 0 : constants.signals[signal])));
  return promise;
}
