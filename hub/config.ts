/**
 * What the hub can be told, in one schema. Each key has a flag (`--max-hosts`), a variable (`FAIRLEAD_HUB_MAX_HOSTS`) and a place in the
 * file (`maxHosts`); a flag beats a variable, a variable beats the file, the file beats the default.
 *
 * Secrets are never among them: tokens are made by the hub, and the TLS key is named by its path.
 */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import * as v from 'valibot';
import { parse as parseYaml } from 'yaml';
import { FairleadError } from '../shared/errors.ts';
import { isLoopbackHost } from '../shared/protocol/handshake.ts';
import { parseWith } from '../shared/protocol/parse-with.ts';

const Path = v.pipe(v.string(), v.minLength(1), v.maxLength(4095));

/** A whole number, from the file as such or as text from a flag. */
const whole = (min: number, max: number) =>
  v.pipe(
    v.union([v.number(), v.pipe(v.string(), v.regex(/^\d{1,12}$/, 'must be a whole number'), v.transform(Number))]),
    v.integer(),
    v.minValue(min),
    v.maxValue(max),
  );

const Flag = v.union([
  v.boolean(),
  v.pipe(
    v.picklist(['true', 'false', '1', '0'], 'must be true or false'),
    v.transform((text) => text === 'true' || text === '1'),
  ),
]);

const Origins = v.pipe(
  v.union([
    v.array(v.string()),
    v.pipe(
      v.string(),
      v.transform((text) => text.split(',').filter((origin) => origin !== '')),
    ),
  ]),
  v.array(v.pipe(v.string(), v.regex(/^https?:\/\/[^/\s]+$/, 'must be an origin such as https://console.example'))),
  v.maxLength(64),
);

const Listen = v.pipe(
  v.string(),
  v.check((text) => parseListen(text) !== undefined, 'must be ADDRESS:PORT, with an IPv6 address in brackets'),
);

const ENTRIES = {
  listen: v.optional(Listen, '127.0.0.1:7080'),
  /** Where the store and the first administrator's token are; `:memory:` keeps nothing. */
  dataDir: Path,
  tlsCert: v.optional(Path),
  tlsKey: v.optional(Path),
  /** TLS ends in a proxy before the hub: the caller's address is the last of X-Forwarded-For, and no channel binding can be had. */
  behindProxy: v.optional(Flag, false),
  /** Listen without TLS on an address that others can reach. */
  insecure: v.optional(Flag, false),
  /** Origins whose web pages may call `/rpc`, exactly as browsers send them. */
  allowedOrigins: v.optional(Origins, []),
  logLevel: v.optional(v.picklist(['debug', 'info', 'warn', 'error', 'silent']), 'info'),

  maxHosts: v.optional(whole(1, 100_000), 20_000),
  maxOperators: v.optional(whole(1, 100_000), 256),
  /** Connections that have not proved who they are. */
  maxUnauthenticated: v.optional(whole(1, 100_000), 1024),
  /** Time for TLS, for the request's header, and for HELLO, each. */
  handshakeTimeoutMs: v.optional(whole(100, 60_000), 10_000),
  handshakesPerSecond: v.optional(whole(1, 1_000_000), 1000),
  handshakeBurst: v.optional(whole(1, 1_000_000), 2000),
  addressHandshakesPerSecond: v.optional(whole(1, 1_000_000), 100),
  addressHandshakeBurst: v.optional(whole(1, 1_000_000), 1000),
  maxStreamsPerHost: v.optional(whole(1, 65_536), 2048),
  maxStreamsPerOperator: v.optional(whole(1, 65_536), 2048),
  /** VMs of one host that the hub remembers in order to find a VM by its name. */
  maxVmsPerHost: v.optional(whole(1, 100_000), 4096),
  /** On shutdown, the time in which sessions are asked to leave and to come back. */
  drainMs: v.optional(whole(0, 600_000), 2000),
};

const HubConfigSchema = v.pipe(
  v.strictObject(ENTRIES),
  v.check((config) => (config.tlsCert === undefined) === (config.tlsKey === undefined), 'tlsCert and tlsKey go together'),
  v.check(
    (config) => config.tlsCert !== undefined || config.insecure || isLoopbackHost(parseListen(config.listen)?.host ?? ''),
    'listening beyond loopback needs TLS (tlsCert, tlsKey); insecure allows it without',
  ),
);

export type HubConfig = Readonly<v.InferOutput<typeof HubConfigSchema>>;
export type HubConfigInput = v.InferInput<typeof HubConfigSchema>;

export interface HubCommandLine {
  readonly config: HubConfig;
  readonly printConfig: boolean;
  readonly help: boolean;
}

type Environment = Readonly<Record<string, string | undefined>>;

const KEYS = Object.keys(ENTRIES);
const SWITCHES = new Set(['behindProxy', 'insecure']);

/** @throws FairleadError INVALID_PARAMS that names each value that is wrong */
export function parseHubConfig(input: unknown): HubConfig {
  return Object.freeze(parseWith(HubConfigSchema, input, 'config'));
}

/** @throws FairleadError INVALID_PARAMS */
export function readHubCommandLine(argv: readonly string[], env: Environment): HubCommandLine {
  const flags = parseFlags(argv);
  const file = flags['config'] ?? env['FAIRLEAD_HUB_CONFIG'];
  const merged: Record<string, unknown> = { dataDir: defaultDataDir(env), ...(typeof file === 'string' ? readFile(file) : {}) };
  for (const key of KEYS) {
    const value = flags[flagName(key)] ?? env[`FAIRLEAD_HUB_${flagName(key).replaceAll('-', '_').toUpperCase()}`];
    if (value !== undefined) merged[key] = value;
  }
  return { config: parseHubConfig(merged), printConfig: flags['print-config'] === true, help: flags['help'] === true };
}

/** One line a flag, with its default. */
export function hubUsage(env: Environment): string {
  const defaults: Readonly<Record<string, unknown>> = parseHubConfig({ dataDir: defaultDataDir(env) });
  const lines = KEYS.map((key) => {
    const value = defaults[key];
    const shown = typeof value === 'string' || typeof value === 'number' ? `(default ${value})` : '';
    return `  --${flagName(key)}${SWITCHES.has(key) ? '' : ' VALUE'} ${shown}`.trimEnd();
  });
  return ['usage: fairlead hub [--config FILE] [--print-config] [--help]', ...lines, ''].join('\n');
}

/** `127.0.0.1:7080`, `[::1]:7080` or `localhost:0`, taken apart. */
export function parseListen(text: string): { host: string; port: number } | undefined {
  const [, bracketed, plain, digits] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = Number(digits);
  return host === undefined || !(port <= 65_535) ? undefined : { host, port };
}

function parseFlags(argv: readonly string[]): Readonly<Record<string, string | boolean | undefined>> {
  const options = Object.fromEntries(
    KEYS.map((key) => [flagName(key), { type: SWITCHES.has(key) ? ('boolean' as const) : ('string' as const) }]),
  );
  const own = { config: { type: 'string' }, 'print-config': { type: 'boolean' }, help: { type: 'boolean' } } as const;
  try {
    return parseArgs({ args: [...argv], options: { ...options, ...own }, allowNegative: true, strict: true }).values;
  } catch (cause) {
    throw new FairleadError('INVALID_PARAMS', cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

function readFile(path: string): Record<string, unknown> {
  let content: unknown;
  try {
    content = parseYaml(readFileSync(path, 'utf8')) ?? {};
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new FairleadError('INVALID_PARAMS', `could not read configuration ${path}: ${reason}`, { cause });
  }
  if (typeof content === 'object' && !Array.isArray(content)) return { ...content };
  throw new FairleadError('INVALID_PARAMS', `configuration ${path} is no mapping of keys to values`);
}

function flagName(key: string): string {
  return key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** systemd's StateDirectory, else the place of the XDG base directory specification. */
function defaultDataDir(env: Environment): string {
  const base = env['XDG_STATE_HOME'] ?? join(env['HOME'] ?? homedir(), '.local', 'state');
  return env['STATE_DIRECTORY'] ?? join(base, 'fairlead-hub');
}
