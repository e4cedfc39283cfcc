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
const hostileSpec = fc
  .record({
    kernel: path,
    initrd: path,
    args: text,
    disks: fc.array(fc.record({ path, format: fc.constantFrom('raw', 'qcow2') }), { maxLength: 3 }),
    tap: fc.string({ unit: fc.constantFrom(',', '=', '"', '\\', 'a', '-', '{', 'é'), minLength: 1, maxLength: 15 }),
    serial: fc.string({ unit: fc.constantFrom(',', '=', '"', '\\', '}', 'z'), minLength: 1, maxLength: 20 }),
  })
  .map(({ kernel, initrd, args, disks, tap, serial }) =>
    v.parse(VmSpec, {
      ...FIXED,
      boot: { kernel, initrd, args },
      disks: disks.map((disk) => ({ ...disk, serial })),
      networks: [{ type: 'tap', tap }],
    }),
  );

const HOST: ArgvHost = {
  uuid: '6f2a1c58-6a0d-4e0c-9a57-0c4f0b8a1d11',
  accelerator: 'tcg',
  machine: 'pc-q35-7.2',
  sandbox: true,
  tscKhz: undefined,
  vsock: undefined,
  paths: {
    monitorSocket: '/r/m',
    consoleSocket: '/r/c',
    consoleLog: '/s/c',
    guestAgentSocket: '/r/a',
    ramFile: '/s/r',
    addedRamFile: '/s/a',
  },
};

/** Options that QEMU reads as JSON when their value begins with a brace. */
const JSON_FLAGS = new Set(['-object', '-blockdev', '-netdev', '-device']);
/** Options that take their value as it stands. */
const OPAQUE_FLAGS = new Set(['-kernel', '-initrd', '-append']);
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

test('no value of a spec can make, change or end an option', () => {
  const harmless = v.parse(VmSpec, { ...FIXED, boot: { kernel: '/k', initrd: '/i', args: 'a' } });
  fc.assert(
    fc.property(hostileSpec, (hostile) => {
      const options = readOptions(buildArgs(hostile, HOST));
      // The same options as with harmless values, in the same order.
      const disks = hostile.disks.map(({ format }) => ({ path: '/d', format, serial: 's' }));
      const model = v.parse(VmSpec, { ...harmless, disks, networks: [{ type: 'tap', tap: 't' }] });
      expect(options.map(([flag]) => flag)).toEqual(readOptions(buildArgs(model, HOST)).map(([flag]) => flag));

      const byFlag = (flag: string) => options.filter(([name]) => name === flag).map(([, value]) => value);
      expect(byFlag('-kernel')).toEqual([hostile.boot.kernel]);
      expect(byFlag('-initrd')).toEqual([hostile.boot.initrd]);
      expect(byFlag('-append')).toEqual([hostile.boot.args]);
      const files = byFlag('-blockdev').map((value): unknown => JSON.parse(value).filename);
      expect(files.filter((name) => name !== undefined)).toEqual(hostile.disks.map((disk) => disk.path));
      const serials = byFlag('-device').map((value): unknown => JSON.parse(value).serial);
      expect(serials.filter((serial) => serial !== undefined)).toEqual(hostile.disks.map((disk) => disk.serial));
      expect(JSON.parse(byFlag('-netdev')[0] ?? '').ifname).toBe(
        hostile.networks[0]?.type === 'tap' ? hostile.networks[0].tap : '',
      );

      // Nothing of the caller's is anywhere else.
      const rest = options.filter(([flag]) => !JSON_FLAGS.has(flag) && !OPAQUE_FLAGS.has(flag));
      expect(rest).toEqual(
        readOptions(buildArgs(model, HOST)).filter(([flag]) => !JSON_FLAGS.has(flag) && !OPAQUE_FLAGS.has(flag)),
      );
    }),
    { numRuns: 500 },
  );
});
