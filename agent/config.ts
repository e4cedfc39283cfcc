/**
 * What the agent can be told, in one schema. Each key has a flag (`--state-dir`), a variable (`FAIRLEAD_AGENT_STATE_DIR`) and a place in
 * the file (`stateDir`); config-source.ts says which wins. Unknown keys are refused.
 *
 * The host's owner decides here what the hub may do on it. Unless told otherwise the hub may call every method, but QEMU's monitor
 * only to ask, and guests get files of `<stateDir>/images` and nothing else of the host, no networks and no PCI devices included.
 */
import { createHash } from 'node:crypto';
import { hostname } from 'node:os';
import { join } from 'node:path';
import * as v from 'valibot';
import type { SettingsSource } from '../shared/node/settings-source.ts';
import { Bytes, HostPath, Labels, Name } from '../shared/protocol/common.ts';
import { hubEndpoints, isLoopbackHost } from '../shared/protocol/handshake.ts';
import { parseWith } from '../shared/protocol/parse-with.ts';
import { entriesOf, list, listOf, parseAddress, path, splitList, toggle, value, whole, written } from '../shared/settings.ts';
import { parseGuestService } from './vm/guest-ports/guest-service.ts';

const DURATION_UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** A time as `500ms`, `30s`, `5m`, `1h`, or a number of milliseconds. */
export const duration = (minMs: number, maxMs: number) =>
  v.pipe(
    v.union([v.number(), v.pipe(v.string(), v.maxLength(16), v.transform(parseDuration))]),
    v.number('must be a time such as 500ms, 30s, 5m or 1h'),
    v.minValue(minMs, `must be at least ${minMs}ms`),
    v.maxValue(maxMs, `must be at most ${maxMs}ms`),
  );

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

/** `user`, `tap:NAME` or `bridge:NAME`, each name possibly a prefix. */
const NetworkPattern = v.pipe(
  v.string(),
  v.regex(/^(\*|user|(tap|bridge):([^\s/*,]{1,15}\*?|\*))$/, 'must be user, tap:NAME or bridge:NAME, or * for all'),
);
const MigrationTarget = v.pipe(
  v.string(),
  v.regex(
    /^(\*|tcp:[A-Za-z0-9.:[\]-]*\*?|unix:\/[^\0]*)$/,
    'must be tcp:HOST:PORT, a prefix of one with *, unix:/DIRECTORY, or *',
  ),
);
/** Of the host's user database. */
const Account = v.pipe(written, v.regex(/^([a-z_][a-z0-9_-]{0,31}|\d{1,10})$/i, 'must be a name or a number'));
const Cgroup = v.union([v.picklist(['auto', 'off']), HostPath], 'must be auto, off or the path of a control group');
/** Where distributions put the firmware of guests. */
const FIRMWARE_DIRECTORIES = ['/usr/share/qemu', '/usr/share/seabios', '/usr/share/OVMF', '/usr/share/AAVMF', '/usr/share/edk2'];

/** A name, or with `*` at its end all that start so. */
const Pattern = v.pipe(v.string(), v.regex(/^(\*|[a-zA-Z0-9._-]+\*?)$/, 'must be a name, a prefix with * at its end, or *'));
/** What guests may dial of this host. */
const GuestServiceText = v.pipe(
  v.string(),
  v.check((text) => parseGuestService(text) !== undefined, 'must be PORT=unix:/path or PORT=tcp:ADDRESS:PORT'),
);
const PortRange = v.pipe(v.string(), v.regex(/^(\*|\d{1,10}(-\d{1,10})?)$/, 'must be a port, a range such as 1024-65535, or *'));

const AGENT_SETTINGS = {
  hub: value(HubAddress, 'address of the hub, such as wss://hub.example'),
  host: value(v.optional(Name), "name of this host at the hub; the machine's own by default"),
  labels: list(v.optional(LabelSet, {}), 'labels of this host, key=value'),
  token: value(
    v.optional(v.pipe(v.string(), v.regex(/^[\x21-\x7e]{1,512}$/, 'must be printable text without spaces'))),
    'one-time enrolment token; needed once, and a new one makes the host enrol again',
  ),
  tokenFile: path(v.optional(HostPath), 'file that holds the enrolment token'),
  caFile: path(v.optional(HostPath), "certificates (PEM) by which the hub is known, instead of the system's"),
  behindProxy: toggle(
    "a proxy ends TLS before the hub, so that the proof of the host's key cannot be bound to the TLS connection",
  ),
  insecure: toggle('speak plain ws: with a hub that is not on this machine'),

  stateDir: path(HostPath, "the host's key, its VMs and, by default, the images that guests may have; kept"),
  runDir: path(v.optional(HostPath), 'sockets of running VMs; must outlive the agent, and be short: unix sockets take 107 bytes'),
  snapshotDir: path(
    v.optional(HostPath),
    "named snapshots of VMs, with memory and disks of guests: the agent's own, mode 700; by default snapshots in the state directory",
  ),
  ramDir: path(
    v.optional(HostPath),
    "RAM of guests whose spec wants it in files: memory (tmpfs, hugetlbfs) or a disk, and the agent's alone; by default a directory of its own in /dev/shm",
  ),
  untestedSuspend: toggle('suspend guests on versions of QEMU on which that was not tested, too'),
  httpListen: value(
    v.optional(HttpListen, '127.0.0.1:7081'),
    'health, metrics and version: ADDRESS:PORT of loopback, unix:/path or off',
  ),
  logLevel: value(
    v.optional(v.picklist(['debug', 'info', 'warn', 'error', 'silent']), 'info'),
    'debug, info, warn, error or silent',
  ),

  qemuBinary: path(v.optional(HostPath), "QEMU's binary; by default the one of this architecture on PATH"),
  vsock: value(
    v.optional(v.picklist(['auto', 'vhost-vsock', 'vhost-user', 'off']), 'auto'),
    'auto, vhost-vsock, vhost-user or off',
  ),
  qemuUser: value(v.optional(Account), "user that QEMU and its helpers run as; by default the agent's own"),
  qemuGroup: value(v.optional(Account), "group that they run as, such as kvm; by default the user's own"),
  cgroup: value(
    v.optional(Cgroup, 'auto'),
    'control group (v2) below which each VM gets one with limits; auto takes what the service manager delegates, off none',
  ),
  memoryOverhead: value(v.optional(Bytes, 256 * 1024 ** 2), 'what a VM may take beyond its RAM before its control group ends it'),
  oomScoreAdj: value(
    v.optional(whole(0, 1000), 200),
    'how much sooner than others a VM is ended when the host has no memory left',
  ),
  vhostDeviceVsock: path(v.optional(HostPath), 'vhost-device-vsock; by default the one on PATH'),

  methods: list(v.optional(listOf(Pattern), ['*']), 'methods that the hub may call'),
  qmpCommands: list(v.optional(listOf(Pattern), ['query-*']), 'QMP commands that vm.qmp may send'),
  vsockPorts: list(v.optional(listOf(PortRange), ['*']), 'ports of guests that streams may go to'),
  listenPorts: list(v.optional(listOf(PortRange), ['*']), 'ports on which operators may hear what guests dial'),
  vsockServices: list(
    v.optional(listOf(GuestServiceText), []),
    'services of this host that its guests may dial: PORT=unix:/path or PORT=tcp:ADDRESS:PORT',
  ),
  imageRoots: list(
    v.optional(listOf(HostPath)),
    'directories whose files guests may be given as kernel, initrd or disk, links followed first; by default images in the state directory',
  ),
  firmwareRoots: list(
    v.optional(listOf(HostPath), FIRMWARE_DIRECTORIES),
    'directories that firmware may come from, besides imageRoots',
  ),
  networks: list(v.optional(listOf(NetworkPattern), []), 'networks that guests may be on: user, tap:NAME, bridge:NAME'),
  forwardPorts: list(v.optional(listOf(PortRange), []), "ports of this host's loopback that may lead into guests"),
  accelerators: list(v.optional(listOf(v.picklist(['kvm', 'tcg'])), ['kvm', 'tcg']), 'kvm, tcg or both'),
  migrationTargets: list(
    v.optional(listOf(MigrationTarget), []),
    'where the memory of guests may be sent: tcp:HOST:PORT, or unix:/DIRECTORY for sockets in it',
  ),
  pciDevices: list(v.optional(listOf(Pattern), []), 'PCI devices that may be passed through, by address or path'),
  maxVms: value(v.optional(whole(0, 100_000), 1024), 'VMs on this host'),
  maxVmCpus: value(v.optional(whole(1, 1024)), 'CPUs of one VM'),
  maxVmMemory: value(v.optional(Bytes), 'memory of one VM, as far as it can grow'),
  maxCpus: value(v.optional(whole(1, 1_000_000)), 'CPUs of all VMs that run'),
  maxMemory: value(v.optional(Bytes), 'memory of all VMs that run, as far as they can grow'),
  maxImageBytes: value(v.optional(Bytes, 64 * 1024 ** 3), 'size of one image that is fetched from the hub'),
  maxStreamsPerVm: value(v.optional(whole(0, 65_536), 2048), 'streams into one guest'),

  journalCommands: value(
    v.optional(whole(1000, 1_000_000), 20_000),
    'commands that the journal keeps for a day; the oldest beyond are forgotten early. About 500 bytes of memory each',
  ),
  journalBytes: value(
    v.optional(v.pipe(Bytes, v.minValue(16 * 1024 ** 2)), 64 * 1024 ** 2),
    'size of the journal on disk, likewise',
  ),

  releaseKeys: list(
    v.optional(
      listOf(v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{43}$/, 'must be a public key as `fairlead release sign` prints it'))),
      [],
    ),
    'keys of which one must have signed a release of the agent before it is tried; without any, the hub decides alone',
  ),

  dialTimeout: value(v.optional(duration(100, 600_000), 10_000), 'time for a connection to the hub to be made'),
  maxBackoff: value(
    v.optional(duration(0, 3_600_000), 60_000),
    'the longest wait between two attempts; waits are random and grow up to it',
  ),
  drainTimeout: value(v.optional(duration(0, 600_000), 5_000), 'on shutdown, the time for calls under way to end; VMs stay'),
} as const;

export const AGENT_SETTINGS_SOURCE: SettingsSource = { settings: AGENT_SETTINGS, prefix: 'FAIRLEAD_AGENT_' };

const ConfigSchema = v.pipe(
  v.strictObject(entriesOf(AGENT_SETTINGS)),
  v.check(
    ({ hub, insecure }) => insecure || hubEndpoints(hub)?.secure === true || hubEndpoints(hub)?.loopback === true,
    'hub: plain ws: to another machine shows everything to the network; use wss:, or set insecure',
  ),
  v.transform((config) => ({
    ...config,
    host: config.host ?? defaultHostName(),
    runDir: config.runDir ?? join(config.stateDir, 'run'),
    ramDir: config.ramDir ?? defaultRamDir(config.stateDir),
    snapshotDir: config.snapshotDir ?? join(config.stateDir, 'snapshots'),
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
  const address = parseAddress(text);
  return address !== undefined && isLoopbackHost(address.host) ? address : undefined;
}

/** The agent's alone: it makes it, and removes it when nothing is in it. */
export function defaultRamDir(stateDir: string): string {
  return join('/dev/shm', `fairlead-${shortHash(stateDir)}`);
}

/** Tells the directories of two agents of one host apart. */
function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 8);
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

/** `zone=a,rack=7`. */
function parseLabels(text: string): Record<string, string> {
  return Object.fromEntries(
    splitList(text).map((pair) => {
      const [key = '', ...value] = pair.split('=');
      return [key, value.join('=')];
    }),
  );
}
