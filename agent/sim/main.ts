/**
 * `fairlead sim`: thousands of simulated hosts on a real hub, to rehearse what is meant for thousands of real ones. Arguments, signals and
 * the view of how the fleet is are here; crew.ts has the processes.
 *
 * Exit codes: 0 ended by a signal, 2 wrong use, else as in the error table.
 */
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { availableParallelism, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type * as Yaml from 'yaml';
import { FairleadError, toFairleadError } from '../../shared/errors.ts';
import { ERROR_TABLE } from '../../shared/protocol/error-table.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import { SimFleet, type SimFleetOptions } from './crew.ts';
import type { SimCounts } from './crew-messages.ts';
import { SimScript } from './script.ts';

const MAX_HOSTS = 100_000;
/** One process has no use for more than about one core. */
const HOSTS_A_PROCESS = 2_500;
const MIB = 1024 ** 2;

const USAGE = `usage: fairlead sim --hosts N --hub ADDRESS [--token TOKEN | --token-file FILE] [options]
Connects simulated hosts to a hub. They are agents in all but their VMs, which are played: no QEMU is needed, and nothing is run.
  --hosts N            how many
  --hub ADDRESS        such as ws://127.0.0.1:7080
  --token TOKEN        an enrolment token good for all of them: fairlead token create enrol --uses N
  --token-file FILE    a file that holds it
  --script FILE        what goes wrong, when and for whom (YAML); docs/howto/simulate-a-fleet.md
  --processes N        over which the hosts are spread (default: one for ${HOSTS_A_PROCESS} hosts, two at least on two cores)
  --prefix NAME        hosts are NAME-00001 and so on (default sim)
  --state-dir DIR      keys and journals of the hosts, kept for the next time; without it they are new, and gone at the end
  --ca-file FILE       certificates (PEM) by which the hub is known
  --max-backoff TIME   the longest wait of a host between two attempts (default 60s)
  --insecure           plain ws: with a hub that is not on this machine
A hub takes some 100 handshakes a second of one address: raise --address-handshakes-per-second there for a fleet on one machine.
`;

interface SimOptions extends Omit<SimFleetOptions, 'directory' | 'entry' | 'onCounts'> {
  readonly stateDir: string | undefined;
}

export async function runSim(argv: readonly string[]): Promise<number> {
  try {
    const options = readOptions(argv);
    if (options === 'help') {
      process.stdout.write(USAGE);
      return 0;
    }
    return await run(options);
  } catch (error) {
    const { code, message } = toFairleadError(error);
    process.stderr.write(`fairlead sim: ${message}\n`);
    return ERROR_TABLE[code].exit;
  }
}

async function run({ stateDir, ...options }: SimOptions): Promise<number> {
  const signalled = firstSignal();
  const directory = stateDir ?? (await mkdtemp(join(tmpdir(), 'fairlead-sim-')));
  await using scope = new AsyncDisposableStack();
  if (stateDir === undefined) scope.defer(() => rm(directory, { recursive: true, force: true }));
  const view = new View();
  const fleet = scope.use(
    await SimFleet.start({ ...options, directory, entry: process.argv[1] ?? '', onCounts: (counts) => view.show(counts) }),
  );
  await Promise.race([signalled, fleet.failed]);
  view.end();
  return 0;
}

/** @throws FairleadError INVALID_PARAMS */
function readOptions(argv: readonly string[]): SimOptions | 'help' {
  const values = readFlags(argv);
  if (values.help) return 'help';
  const hosts = whole('hosts', values.hosts ?? '', MAX_HOSTS);
  const { hub } = values;
  if (hub === undefined) throw new FairleadError('INVALID_PARAMS', 'no hub is known: give --hub ADDRESS');
  const tokenFile = values['token-file'];
  const token = values.token ?? (tokenFile === undefined ? undefined : readFile('the token', tokenFile).trim());
  const caFile = values['ca-file'];
  const maxBackoff = values['max-backoff'];
  return {
    hosts,
    processes: values.processes === undefined ? defaultProcesses(hosts) : whole('processes', values.processes, hosts),
    prefix: values.prefix,
    // The agent's own configuration says what is wrong with any of these.
    access: {
      hub,
      insecure: values.insecure,
      ...(token === undefined ? {} : { token }),
      ...(caFile === undefined ? {} : { caFile: resolve(caFile) }),
      ...(maxBackoff === undefined ? {} : { maxBackoff }),
    },
    script: values.script === undefined ? parseWith(SimScript, {}, 'script') : readScript(values.script),
    stateDir: values['state-dir'] === undefined ? undefined : resolve(values['state-dir']),
  };
}

function readFlags(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      options: {
        hosts: { type: 'string' },
        hub: { type: 'string' },
        token: { type: 'string' },
        'token-file': { type: 'string' },
        script: { type: 'string' },
        processes: { type: 'string' },
        prefix: { type: 'string', default: 'sim' },
        'state-dir': { type: 'string' },
        'ca-file': { type: 'string' },
        'max-backoff': { type: 'string' },
        insecure: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values;
  } catch (cause) {
    throw new FairleadError('INVALID_PARAMS', cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

function whole(name: string, text: string, max: number): number {
  const number = Number(text);
  if (/^\d+$/.test(text) && number >= 1 && number <= max) return number;
  throw new FairleadError('INVALID_PARAMS', `--${name} must be a whole number from 1 to ${max}`);
}

function defaultProcesses(hosts: number): number {
  return Math.min(hosts, Math.max(Math.ceil(hosts / HOSTS_A_PROCESS), Math.min(2, availableParallelism())));
}

/** YAML, of which JSON is a part. @throws FairleadError INVALID_PARAMS */
function readScript(path: string): SimScript {
  // SAFETY: the module of that name; its CommonJS form can be loaded at once.
  const { parse } = createRequire(import.meta.url)('yaml') as typeof Yaml;
  const text = readFile('the script', path);
  let content: unknown;
  try {
    content = parse(text, { maxAliasCount: 16 }) ?? {};
  } catch (cause) {
    throw new FairleadError('INVALID_PARAMS', `${path} is no YAML: ${String(cause)}`, { cause });
  }
  return parseWith(SimScript, content, path);
}

function readFile(what: string, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new FairleadError('INVALID_PARAMS', `could not read ${what}: ${String(cause)}`, { cause });
  }
}

/** One line, in place on a terminal; elsewhere a line whenever something has changed. */
class View {
  #last = '';

  show(counts: SimCounts): void {
    const line = describe(counts);
    if (line === this.#last) return;
    this.#last = line;
    process.stdout.write(process.stdout.isTTY ? `\r\x1b[K${line}` : `${line}\n`);
  }

  end(): void {
    if (process.stdout.isTTY) process.stdout.write('\n');
  }
}

function describe({ hosts, up, broken, operationsDone, operationsFailed, rssBytes, lastError }: SimCounts): string {
  const parts = [
    `${up} of ${hosts} hosts are connected`,
    ...(broken === 0 ? [] : [`${broken} could not start`]),
    ...(operationsDone + operationsFailed === 0 ? [] : [`${operationsDone} operations done, ${operationsFailed} failed`]),
    `${Math.round(rssBytes / MIB)} MiB`,
    ...(lastError === undefined || up === hosts ? [] : [lastError]),
  ];
  return parts.join(' · ');
}

/** The second signal ends on the spot; the other processes see that their parent is gone. */
function firstSignal(): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  let isFirst = true;
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      if (!isFirst) process.exit(130);
      isFirst = false;
      resolve();
    });
  }
  return promise;
}
