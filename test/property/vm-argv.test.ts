import * as fc from 'fast-check';
import * as v from 'valibot';
import { expect, test } from 'vitest';
import { buildArgs } from '../../agent/vm/argv/build-args.ts';
import type { ArgvHost } from '../../agent/vm/argv/host.ts';
import { VmSpec } from '../../shared/protocol/vm-spec.ts';

/** What breaks option parsers: separators, quotes, control characters, other scripts, and things that look like options. */
const nasty = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.constantFrom(
    ',id=x',
    '",',
    '"}',
    "'",
    '\\',
    '\n-device x',
    ' ',
    '-S',
    '-kernel',
    'é',
    '漢',
    '%s',
    '$(x)',
    '{"a":1}',
    ',,',
    '=on',
  ),
);
const text = fc.array(nasty, { maxLength: 6 }).map((parts) => parts.join('').replaceAll('\0', ''));
const path = text.map((rest) => `/${rest}`);

const FIXED = { name: 'web', cpus: {}, memory: {}, labels: {} } as const;
const interfaceName = fc.string({ unit: fc.constantFrom(',', '=', '"', '\\', 'a', '-', '{', 'é'), minLength: 1, maxLength: 15 });

const hostileSpec = fc
  .record({
    kernel: path,
    initrd: path,
    args: text,
    firmware: fc.record({ code: path, vars: fc.option(path, { nil: undefined }) }),
    disks: fc.array(fc.record({ path, format: fc.constantFrom('raw', 'qcow2') }), { maxLength: 3 }),
    medium: path,
    tap: interfaceName,
    serial: fc.string({ unit: fc.constantFrom(',', '=', '"', '\\', '}', 'z'), minLength: 1, maxLength: 20 }),
  })
  .map(({ kernel, initrd, args, firmware, disks, medium, tap, serial }) =>
    v.parse(VmSpec, {
      ...FIXED,
      boot: { kernel, initrd, args, firmware },
      disks: [...disks.map((disk) => ({ ...disk, serial })), { media: 'cdrom', path: medium }],
      networks: [{ type: 'tap', tap }],
      guestAgent: {},
      memory: { backing: 'file' },
    }),
  );

/** The agent's own directories, which its owner may have named as he likes. */
const hostilePaths = fc.record({
  monitorSocket: path,
  consolePipes: path,
  consoleLog: path,
  guestAgentSocket: path,
  ramFile: path,
  addedRamFile: path,
});

const HOST: Omit<ArgvHost, 'paths'> = {
  uuid: '6f2a1c58-6a0d-4e0c-9a57-0c4f0b8a1d11',
  accelerator: 'tcg',
  machine: 'pc-q35-7.2',
  sandbox: true,
  tscKhz: undefined,
  vsock: undefined,
};
const PLAIN_PATHS = {
  monitorSocket: '/m',
  consolePipes: '/c',
  consoleLog: '/l',
  guestAgentSocket: '/a',
  ramFile: '/r',
  addedRamFile: '/s',
};

/** Options that QEMU reads as JSON when their value begins with a brace. */
const JSON_FLAGS = new Set(['-object', '-blockdev', '-netdev', '-device']);
/** Options that take their value as it stands. */
const OPAQUE_FLAGS = new Set(['-kernel', '-initrd', '-append', '-bios']);
const BARE_FLAGS = new Set(['-S', '-nodefaults', '-no-user-config']);

/** Reads an argv the way QEMU does: a flag, then its value, whatever the value looks like. */
function readOptions(argv: readonly string[]): [string, string][] {
  const options: [string, string][] = [];
  for (let i = 0; i < argv.length; i++) {
    const flag = argv[i] ?? '';
    options.push([flag, BARE_FLAGS.has(flag) ? '' : (argv[++i] ?? '')]);
  }
  return options;
}

/** Reads `key=value,…` the way QEMU does, where a comma in a value is written twice. */
function readKeys(value: string): Map<string, string> {
  const parts = value.replaceAll(',,', '\0').split(',');
  return new Map(
    parts.map((part) => {
      const at = part.indexOf('=');
      return [part.slice(0, Math.max(at, 0)), part.slice(at + 1).replaceAll('\0', ',')];
    }),
  );
}

test('no value of a spec can make, change or end an option', () => {
  fc.assert(
    fc.property(hostileSpec, hostilePaths, (hostile, paths) => {
      const options = readOptions(buildArgs(hostile, { ...HOST, paths }));
      const byFlag = (flag: string) => options.filter(([name]) => name === flag).map(([, value]) => value);

      // The same options as with harmless values, in the same order.
      const disks = hostile.disks.map(({ format, media }) => ({
        media,
        path: '/d',
        format,
        ...(media === 'disk' && { serial: 's' }),
      }));
      const firmware = { code: '/f', ...(hostile.boot.firmware?.vars !== undefined && { vars: '/v' }) };
      const boot = { kernel: '/k', initrd: '/i', args: 'a', firmware };
      const harmless = {
        ...FIXED,
        boot,
        disks,
        networks: [{ type: 'tap', tap: 't' }],
        guestAgent: {},
        memory: { backing: 'file' },
      };
      const model = readOptions(buildArgs(v.parse(VmSpec, harmless), { ...HOST, paths: PLAIN_PATHS }));
      expect(options.map(([flag]) => flag)).toEqual(model.map(([flag]) => flag));

      // Each value stands where it belongs, whole.
      const { code, vars } = hostile.boot.firmware ?? { code: '' };
      expect(byFlag('-kernel')).toEqual([hostile.boot.kernel]);
      expect(byFlag('-initrd')).toEqual([hostile.boot.initrd]);
      expect(byFlag('-append')).toEqual([hostile.boot.args]);
      expect(byFlag('-bios')).toEqual(vars === undefined ? [code] : []);
      const jsonValues = (flag: string, key: string) =>
        byFlag(flag)
          .map((value): unknown => JSON.parse(value)[key])
          .filter((found) => found !== undefined);
      const flash = vars === undefined ? [] : [code, vars];
      expect(jsonValues('-blockdev', 'filename')).toEqual([...flash, ...hostile.disks.map((disk) => disk.path)]);
      expect(jsonValues('-device', 'serial')).toEqual(hostile.disks.flatMap(({ serial }) => serial ?? []));
      expect(jsonValues('-netdev', 'ifname')).toEqual(hostile.networks.map((network) => network.type === 'tap' && network.tap));
      expect(jsonValues('-object', 'mem-path')).toEqual([paths.ramFile]);
      const chardevs = byFlag('-chardev').map(readKeys);
      expect(chardevs.flatMap((keys) => keys.get('path') ?? [])).toEqual([
        paths.monitorSocket,
        paths.consolePipes,
        paths.guestAgentSocket,
      ]);
      expect(chardevs.flatMap((keys) => keys.get('logfile') ?? [])).toEqual([paths.consoleLog]);

      // Nothing of the caller's is anywhere else.
      const others = (all: typeof options) =>
        all.filter(([flag]) => !JSON_FLAGS.has(flag) && !OPAQUE_FLAGS.has(flag) && flag !== '-chardev');
      expect(others(options)).toEqual(others(model));
      const keysOf = (all: typeof options) =>
        all.filter(([flag]) => flag === '-chardev').map(([, value]) => [...readKeys(value).keys()]);
      expect(keysOf(options)).toEqual(keysOf(model));
    }),
    { numRuns: 500 },
  );
});
