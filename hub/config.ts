/**
 * What the hub can be told, in one schema. Each key has a flag (`--max-hosts`), a variable (`FAIRLEAD_HUB_MAX_HOSTS`) and a place in the
 * file (`maxHosts`); shared/node/settings-source.ts says which wins.
 *
 * Secrets are never among them: tokens are made by the hub, and the TLS key is named by its path.
 */
import { homedir } from 'node:os';
import { join } from 'node:path';
import * as v from 'valibot';
import { type Environment, readSettings, type SettingsSource, settingsUsage } from '../shared/node/settings-source.ts';
import { Bytes } from '../shared/protocol/common.ts';
import { isLoopbackHost } from '../shared/protocol/handshake.ts';
import { parseWith } from '../shared/protocol/parse-with.ts';
import { entriesOf, list, listOf, parseAddress, toggle, value, whole } from '../shared/settings.ts';

const Path = v.pipe(v.string(), v.minLength(1), v.maxLength(4095));

const Origin = v.pipe(v.string(), v.regex(/^https?:\/\/[^/\s]+$/, 'must be an origin such as https://console.example'));

const Listen = v.pipe(
  v.string(),
  v.check((text) => parseAddress(text) !== undefined, 'must be ADDRESS:PORT, with an IPv6 address in brackets'),
);

const HUB_SETTINGS = {
  listen: value(v.optional(Listen, '127.0.0.1:7080'), 'ADDRESS:PORT that agents and operators dial'),
  healthListen: value(
    v.optional(v.union([v.literal('off'), Listen]), 'off'),
    'ADDRESS:PORT for probes and scrapers alone, without TLS, so that they do not wait behind a fleet that comes back; or off',
  ),
  dataDir: value(Path, "store and first administrator's token; :memory: keeps nothing"),
  restoreFrom: value(v.optional(Path), 'backup (hub.backup) to start from, where the data directory has no store yet'),
  tlsCert: value(v.optional(Path), 'certificate chain (PEM); SIGHUP reads it again'),
  tlsKey: value(v.optional(Path), 'key of the certificate (PEM)'),
  behindProxy: toggle('TLS ends in a proxy: callers are known by X-Forwarded-For, and no channel binding can be had'),
  insecure: toggle('listen without TLS on an address that others can reach'),
  allowedOrigins: list(v.optional(listOf(Origin, 64), []), 'origins whose web pages may call /rpc, as browsers send them'),
  logLevel: value(
    v.optional(v.picklist(['debug', 'info', 'warn', 'error', 'silent']), 'info'),
    'debug, info, warn, error or silent',
  ),

  maxHosts: value(v.optional(whole(1, 100_000), 20_000), 'hosts that may be connected at once'),
  maxOperators: value(
    v.optional(whole(1, 100_000), 256),
    'operators that may be connected at once; with one token, three quarters of them',
  ),
  maxUnauthenticated: value(v.optional(whole(1, 100_000), 4096), 'connections that have not proved who they are'),
  handshakeTimeoutMs: value(
    v.optional(whole(100, 60_000), 10_000),
    "milliseconds for TLS, for a request's header, and for HELLO, each",
  ),
  handshakesPerSecond: value(v.optional(whole(1, 1_000_000), 1000), 'handshakes admitted a second while the hub keeps up'),
  minHandshakesPerSecond: value(v.optional(whole(1, 1_000_000), 50), 'the same while it is behind, at least'),
  handshakeLagMs: value(
    v.optional(whole(1, 60_000), 100),
    'milliseconds that the event loop may be late; beyond, fewer handshakes are admitted',
  ),
  handshakeBurst: value(v.optional(whole(1, 1_000_000), 2000), 'handshakes admitted at once'),
  addressHandshakesPerSecond: value(v.optional(whole(1, 1_000_000), 100), 'the same of one address'),
  addressHandshakeBurst: value(v.optional(whole(1, 1_000_000), 1000), 'the same of one address'),
  maxStreamsPerHost: value(v.optional(whole(1, 65_536), 2048), 'streams into the guests of one host'),
  maxStreamsPerOperator: value(v.optional(whole(1, 65_536), 2048), 'streams of one operator'),
  maxVmsPerHost: value(v.optional(whole(1, 100_000), 4096), 'VMs of one host that the hub knows by name'),
  maxEvents: value(v.optional(whole(1000, 100_000_000), 200_000), 'events of the fleet that are kept'),
  maxAuditEntries: value(v.optional(whole(1000, 100_000_000), 500_000), 'calls that the audit keeps'),
  maxEndedCommands: value(v.optional(whole(100, 10_000_000), 20_000), 'commands that have ended and are kept, for a day at most'),
  rolloutSettleMs: value(
    v.optional(whole(0, 600_000), 10_000),
    'milliseconds after a start in which no rollout counts a host as unreachable, so that hosts can come back',
  ),
  maxImageBytes: value(v.optional(Bytes, 64 * 1024 ** 3), 'size of one image, such as 64GiB'),
  imageRate: value(v.optional(Bytes, 64 * 1024 ** 2), 'bytes a second of images to one host, such as 64MiB; 0 is no limit'),
  drainMs: value(v.optional(whole(0, 600_000), 2000), 'milliseconds in which sessions are asked to leave when the hub stops'),
} as const;

export const HUB_SETTINGS_SOURCE: SettingsSource = { settings: HUB_SETTINGS, prefix: 'FAIRLEAD_HUB_' };

const HubConfigSchema = v.pipe(
  v.strictObject(entriesOf(HUB_SETTINGS)),
  v.check((config) => (config.tlsCert === undefined) === (config.tlsKey === undefined), 'tlsCert and tlsKey go together'),
  v.check(
    (config) => config.tlsCert !== undefined || config.insecure || isLoopbackHost(parseAddress(config.listen)?.host ?? ''),
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

/** @throws FairleadError INVALID_PARAMS that names each value that is wrong */
export function parseHubConfig(input: unknown): HubConfig {
  return Object.freeze(parseWith(HubConfigSchema, input, 'config'));
}

/** @throws FairleadError INVALID_PARAMS */
export function readHubCommandLine(argv: readonly string[], env: Environment): HubCommandLine {
  const { values, printConfig, help } = readSettings(HUB_SETTINGS_SOURCE, argv, env);
  return { config: parseHubConfig({ dataDir: defaultDataDir(env), ...values }), printConfig, help };
}

export function hubUsage(): string {
  return `usage: fairlead hub [--config FILE] [--print-config] [--help]

Agents and operators dial in here. Each flag has a variable (--data-dir is FAIRLEAD_HUB_DATA_DIR) and a key of the file (dataDir).
--print-config shows what comes of it all and ends.

${settingsUsage(HUB_SETTINGS_SOURCE)}`;
}

/** systemd's StateDirectory, else the place of the XDG base directory specification. */
function defaultDataDir(env: Environment): string {
  const base = env['XDG_STATE_HOME'] ?? join(env['HOME'] ?? homedir(), '.local', 'state');
  return env['STATE_DIRECTORY'] ?? join(base, 'fairlead-hub');
}
