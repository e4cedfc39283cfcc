/**
 * What the agent can be told, in one schema. Each key has a flag (`--state-dir`), a variable (`FAIRLEAD_STATE_DIR`) and a place in
 * the file (`stateDir`); config-source.ts says which wins. Unknown keys are refused.
 *
 * The host's owner decides here what the hub may do on it. Unless told otherwise the hub may call every method, but QEMU's monitor
 * only to ask, and guests get files of `<stateDir>/images` and nothing else of the host, no PCI devices included.
 */
import { hostname } from 'node:os';
import { join } from 'node:path';
import * as v from 'valibot';
import { HostPath, Labels, Name } from '../shared/protocol/common.ts';
import { hubEndpoints, isLoopbackHost } from '../shared/protocol/handshake.ts';
import { parseWith } from '../shared/protocol/parse-with.ts';

const DURATION_UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** A time as `500ms`, `30s`, `5m`, `1h`, or a number of milliseconds. */
const duration = (minMs: number, maxMs: number) =>
  v.pipe(
    v.union([v.number(), v.pipe(v.string(), v.maxLength(16), v.transform(parseDuration))]),
    v.number('must be a time such as 500ms, 30s, 5m or 1h'),
    v.minValue(minMs, `must be at least ${minMs}ms`),
    v.maxValue(maxMs, `must be at most ${maxMs}ms`),
  );

/** A whole number, from the file as such or as text from a flag or a variable. */
const whole = (min: number, max: number) =>
  v.pipe(
    v.union([v.number(), v.pipe(v.string(), v.regex(/^\d{1,12}$/, 'must be a whole number'), v.transform(Number))]),
    v.integer(),
    v.minValue(min),
    v.maxValue(max),
  );

const Switch = v.union([
  v.boolean(),
  v.pipe(
    v.picklist(['true', 'false', '1', '0'], 'must be true or false'),
    v.transform((text) => text === 'true' || text === '1'),
  ),
]);

/** A list, or its entries with commas between. */
const list = <S extends v.GenericSchema<string>>(entry: S) =>
  v.pipe(v.union([v.array(v.string()), v.pipe(v.string(), v.transform(splitList))]), v.array(entry), v.maxLength(256));

const LabelSet = v.pipe(v.union([v.record(v.string(), v.unknown()), v.pipe(v.string(), v.transform(parseLabels))]), Labels);

const HubAddress = v.pipe(
  v.string(),
  v.maxLength(2048),
  v.check(
    (text) => hubEndpoints(text) !== undefined,
    'must be an address such as wss://hub.example, without user, query or fragment',
  ),
);

const HttpListen = v.pipe(
  v.string(),
  v.check((text) => parseHttpListen(text) !== undefined, 'must be ADDRESS:PORT, unix:/path or off'),
);

/** A name, or with `*` at its end all that start so. */
const Pattern = v.pipe(v.string(), v.regex(/^(\*|[a-zA-Z0-9._-]+\*?)$/, 'must be a name, a prefix with * at its end, or *'));
const PortRange = v.pipe(v.string(), v.regex(/^(\*|\d{1,10}(-\d{1,10})?)$/, 'must be a port, a range such as 1024-65535, or *'));

export const CONFIG_ENTRIES = {
  /** Address of the hub. */
  hub: HubAddress,
  /** Name of this host at the hub; the machine's own by default. */
  host: v.optional(Name),
  labels: v.optional(LabelSet, {}),
  /** One-time enrolment token, or the file that holds it. Needed once; a new one makes the host enrol again. */
  token: v.optional(v.pipe(v.string(), v.regex(/^[\x21-\x7e]{1,512}$/, 'must be printable text without spaces'))),
  tokenFile: v.optional(HostPath),
  /** Certificates (PEM) by which the hub is known, instead of the system's. */
  caFile: v.optional(HostPath),
  /** A proxy ends TLS before the hub, so that the proof of the host's key cannot be bound to the TLS connection. */
  behindProxy: v.optional(Switch, false),
  /** Speak plain ws: with a hub that is not on this machine. */
  insecure: v.optional(Switch, false),

  /** The host's key, its VMs and, by default, the images that guests may have. Kept. */
  stateDir: HostPath,
  /** Sockets of running VMs. Has to outlive the agent, and be short: unix sockets take 107 bytes. */
  runDir: v.optional(HostPath),
  /** Health, metrics and version: ADDRESS:PORT, unix:/path or off. */
  httpListen: v.optional(HttpListen, '127.0.0.1:7081'),
  logLevel: v.optional(v.picklist(['debug', 'info', 'warn', 'error', 'silent']), 'info'),

  /** QEMU's binary; by default the one of this architecture on PATH. */
  qemuBinary: v.optional(HostPath),
  vsock: v.optional(v.picklist(['auto', 'vhost-vsock', 'vhost-user', 'off']), 'auto'),
  /** vhost-device-vsock; by default the one on PATH. */
  vhostDeviceVsock: v.optional(HostPath),

  /** Methods that the hub may call. */
  methods: v.optional(list(Pattern), ['*']),
  /** QMP commands that vm.qmp may send. */
  qmpCommands: v.optional(list(Pattern), ['query-*']),
  /** Ports of guests that streams may go to. */
  vsockPorts: v.optional(list(PortRange), ['*']),
  /** Directories whose files may be given to guests as kernel, initrd or disk; links are followed before it is decided. */
  imageRoots: v.optional(list(HostPath)),
  /** PCI devices that may be passed through, by address or path. */
  pciDevices: v.optional(list(Pattern), []),
  maxVms: v.optional(whole(0, 100_000), 1024),
  maxStreamsPerVm: v.optional(whole(0, 65_536), 1024),

  /** Time for a connection to the hub to be made. */
  dialTimeout: v.optional(duration(100, 600_000), 10_000),
  /** The longest wait between two attempts; the waits are random and grow up to it. */
  maxBackoff: v.optional(duration(0, 3_600_000), 60_000),
  /** On shutdown, the time for calls under way to end. VMs stay. */
  drainTimeout: v.optional(duration(0, 600_000), 5_000),
} as const;

const ConfigSchema = v.pipe(
  v.strictObject(CONFIG_ENTRIES),
  v.check(
    ({ hub, insecure }) => insecure || hubEndpoints(hub)?.secure === true || hubEndpoints(hub)?.loopback === true,
    'hub: plain ws: to another machine shows everything to the network; use wss:, or set insecure',
  ),
  v.transform((config) => ({
    ...config,
    host: config.host ?? defaultHostName(),
    runDir: config.runDir ?? join(config.stateDir, 'run'),
    imageRoots: config.imageRoots ?? [join(config.stateDir, 'images')],
  })),
  v.check(({ host }) => v.is(Name, host), 'host: the name of this machine is no valid host name: set one'),
);

export type AgentConfig = Readonly<v.InferOutput<typeof ConfigSchema>>;

/** @throws FairleadError INVALID_PARAMS that names each value that is wrong */
export function parseAgentConfig(input: unknown): AgentConfig {
  return Object.freeze(parseWith(ConfigSchema, input, 'config'));
}

/** What `--print-config` shows: secrets are said to be there, and no more. */
export function redactConfig(config: AgentConfig): Record<string, unknown> {
  return { ...config, ...(config.token === undefined ? {} : { token: '(redacted)' }) };
}

export type HttpListen = { readonly host: string; readonly port: number } | { readonly path: string } | 'off';

/** Beyond loopback nobody listens: the endpoint has no authentication. */
export function parseHttpListen(text: string): HttpListen | undefined {
  if (text === 'off') return 'off';
  if (text.startsWith('unix:/')) return { path: text.slice('unix:'.length) };
  const [, bracketed, plain, digits] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = Number(digits);
  return host === undefined || !isLoopbackHost(host) || port > 65_535 ? undefined : { host, port };
}

/** The first label of the machine's name, as far as it can be one. */
function defaultHostName(): string {
  const [label = ''] = hostname().toLowerCase().split('.');
  return label
    .replaceAll(/[^a-z0-9-]/g, '-')
    .replaceAll(/^-+|-+$/g, '')
    .slice(0, 63);
}

function parseDuration(text: string): number {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text) ?? [];
  const unitMs = DURATION_UNITS_MS[unit ?? 'ms'];
  return digits === undefined || unitMs === undefined ? Number.NaN : Math.round(Number(digits) * unitMs);
}

function splitList(text: string): string[] {
  return text.split(',').flatMap((entry) => (entry.trim() === '' ? [] : [entry.trim()]));
}

/** `zone=a,rack=7`. */
function parseLabels(text: string): Record<string, string> {
  return Object.fromEntries(
    splitList(text).map((pair) => {
      const [key = '', ...value] = pair.split('=');
      return [key, value.join('=')];
    }),
  );
}
