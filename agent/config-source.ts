/**
 * Where the configuration comes from: flags win over variables (`FAIRLEAD_…`), variables over the file, the file over the defaults.
 * The flags are made from the schema's keys, so that none can be forgotten.
 *
 * The file is YAML, of which JSON is a part. Empty variables count as not set.
 */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { FairleadError } from '../shared/errors.ts';
import { type AgentConfig, CONFIG_ENTRIES, parseAgentConfig } from './config.ts';

export interface AgentCommandLine {
  readonly config: AgentConfig;
  readonly printConfig: boolean;
}

type Environment = Readonly<Record<string, string | undefined>>;

const KEYS = Object.keys(CONFIG_ENTRIES);
/** Flags that stand alone. */
const SWITCHES = new Set(['behindProxy', 'insecure']);
/** Flags that may be given several times. */
const LISTS = new Set(['labels', 'methods', 'qmpCommands', 'vsockPorts', 'imageRoots', 'pciDevices']);

/** @throws FairleadError INVALID_PARAMS */
export async function readAgentCommandLine(argv: readonly string[], env: Environment): Promise<AgentCommandLine | 'help'> {
  const flags = parseFlags(argv);
  if (flags['help'] === true) return 'help';
  const file = flags['config'] ?? env['FAIRLEAD_CONFIG'];
  const merged: Record<string, unknown> = {
    ...defaultDirectories(env),
    ...(typeof file === 'string' && file !== '' ? await readConfigFile(file) : {}),
  };
  for (const key of KEYS) {
    const value = flags[flagName(key)] ?? emptyAsUnset(env[variableName(key)]);
    if (value !== undefined) merged[key] = Array.isArray(value) ? value.join(',') : value;
  }
  return { config: parseAgentConfig(merged), printConfig: flags['print-config'] === true };
}

export function agentUsage(): string {
  const lines = KEYS.map((key) => `  --${flagName(key)}${SWITCHES.has(key) ? '' : ' VALUE'}`);
  return [
    'usage: fairlead agent --hub ADDRESS [--config FILE] [--print-config] [--help]',
    '',
    'Runs VMs on this host for the hub. Each flag has a variable (--state-dir is FAIRLEAD_STATE_DIR) and a key of the file (stateDir).',
    'Lists take commas or several flags. --print-config shows what comes of it all and ends.',
    '',
    ...lines,
    '',
  ].join('\n');
}

type FlagValue = string | boolean | readonly (string | boolean)[] | undefined;

function parseFlags(argv: readonly string[]): Readonly<Record<string, FlagValue>> {
  const options = Object.fromEntries(
    KEYS.map((key) => [
      flagName(key),
      { type: SWITCHES.has(key) ? ('boolean' as const) : ('string' as const), multiple: LISTS.has(key) },
    ]),
  );
  const own = { config: { type: 'string' }, 'print-config': { type: 'boolean' }, help: { type: 'boolean' } } as const;
  try {
    return parseArgs({ args: [...argv], options: { ...options, ...own }, allowNegative: true, strict: true }).values;
  } catch (cause) {
    throw new FairleadError('INVALID_PARAMS', cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

/** The parser of YAML is loaded only for a file that is not JSON. */
async function readConfigFile(path: string): Promise<Record<string, unknown>> {
  let content: unknown;
  try {
    const text = readFileSync(path, 'utf8');
    content = text.trimStart().startsWith('{') ? JSON.parse(text) : ((await import('yaml')).parse(text) ?? {});
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new FairleadError('INVALID_PARAMS', `could not read configuration ${path}: ${why}`, { cause });
  }
  if (typeof content === 'object' && content !== null && !Array.isArray(content)) return { ...content };
  throw new FairleadError('INVALID_PARAMS', `configuration ${path} is no mapping of keys to values`);
}

/** systemd's directories; else those of root, else those of the XDG base directory specification. */
function defaultDirectories(env: Environment): { stateDir: string; runDir?: string } {
  const isRoot = process.getuid?.() === 0;
  const home = env['HOME'] ?? homedir();
  const stateDir =
    env['STATE_DIRECTORY'] ??
    (isRoot ? '/var/lib/fairlead' : join(env['XDG_STATE_HOME'] ?? join(home, '.local/state'), 'fairlead'));
  const base = env['XDG_RUNTIME_DIR'];
  const runDir = env['RUNTIME_DIRECTORY'] ?? (isRoot ? '/run/fairlead' : base === undefined ? undefined : join(base, 'fairlead'));
  return { stateDir, ...(runDir === undefined ? {} : { runDir }) };
}

function emptyAsUnset(value: string | undefined): string | undefined {
  return value === '' ? undefined : value;
}

function flagName(key: string): string {
  return key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function variableName(key: string): string {
  return `FAIRLEAD_${flagName(key).replaceAll('-', '_').toUpperCase()}`;
}
