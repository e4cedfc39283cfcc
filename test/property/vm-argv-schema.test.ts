/**
 * What QEMU takes as JSON on its command line has the same schema as the command that does the same to a running VM, and the agent gives
 * the same descriptions to both. So a spec of any shape is held to the recorded schemas of the oldest and the newest QEMU supported.
 */
import * as fc from 'fast-check';
import * as v from 'valibot';
import { describe, expect, test } from 'vitest';
import { buildArgs } from '../../agent/vm/argv/build-args.ts';
import type { ArgvHost } from '../../agent/vm/argv/host.ts';
import { VmSpec } from '../../shared/protocol/vm-spec.ts';
import { recordedSchemas } from '../support/qmp-schema.ts';

/** Option to the command that takes the same. `-device` has no schema: QEMU itself checks that, in the guest tests. */
const COMMANDS: Readonly<Record<string, string>> = {
  '-object': 'object-add',
  '-blockdev': 'blockdev-add',
  '-netdev': 'netdev_add',
};

const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
const rate = maybe(fc.nat({ max: 2 ** 40 }));
const path = fc.constantFrom('/images/a.img', '/dev/sdx');
const mac = maybe(fc.constant('52:54:00:12:34:56'));

const image = {
  format: fc.constantFrom('raw' as const, 'qcow2' as const),
  cache: fc.constantFrom('none' as const, 'writeback' as const, 'writethrough' as const, 'unsafe' as const),
  aio: fc.constantFrom('threads' as const, 'native' as const, 'io_uring' as const),
  serial: maybe(fc.constant('ROOT')),
};
const throttle = maybe(
  fc.record({ bytesPerSecond: rate, burstBytesPerSecond: rate, operationsPerSecond: rate, burstOperationsPerSecond: rate }),
);
const disk = fc.oneof(
  fc.record({ media: fc.constant('disk' as const), path, readOnly: fc.boolean(), throttle, ...image }),
  fc.record({ media: fc.constant('cdrom' as const), path: maybe(path), ...image }),
);
const forwards = fc.array(
  fc.record({
    protocol: fc.constantFrom('tcp' as const, 'udp' as const),
    hostPort: fc.constant(8080),
    guestPort: fc.constant(80),
  }),
  { maxLength: 2 },
);
const network = fc.oneof(
  fc.record({ type: fc.constant('tap' as const), tap: fc.constant('tap0'), mac }),
  fc.record({ type: fc.constant('bridge' as const), bridge: fc.constant('br0'), mac }),
  fc.record({ type: fc.constant('user' as const), forwards, mac }),
);

const anySpec = fc
  .record({
    machine: fc.constantFrom('q35' as const, 'microvm' as const, 'virt' as const),
    memory: fc.record({
      bytes: fc.constant('256MiB'),
      maxBytes: maybe(fc.constant('1GiB')),
      backing: fc.constantFrom('anonymous' as const, 'file' as const),
    }),
    boot: fc.record({ firmware: maybe(fc.record({ code: path, vars: maybe(path) })), kernel: maybe(path) }),
    disks: fc.array(disk, { maxLength: 4 }),
    networks: fc.array(network, { maxLength: 3 }),
    vsock: maybe(fc.constant({})),
    guestAgent: maybe(fc.constantFrom({ via: 'virtio-serial' as const }, { via: 'vsock' as const })),
  })
  .map((fields) => v.parse(VmSpec, { name: 'web', ...fields }));

const anyHost = fc
  .record({
    accelerator: fc.constantFrom('kvm' as const, 'tcg' as const),
    vhostNet: fc.boolean(),
    backend: fc.constantFrom({ kind: 'vhost-vsock' as const }, { kind: 'vhost-user' as const, socketPath: '/r/v' }),
  })
  .map(
    ({ accelerator, vhostNet, backend }): ArgvHost => ({
      uuid: '6f2a1c58-6a0d-4e0c-9a57-0c4f0b8a1d11',
      accelerator,
      machine: 'any',
      sandbox: true,
      tscKhz: undefined,
      vsock: { cid: 3, backend },
      devices: { vhostNet, taps: { net0: 'fl0', net1: 'fl1', net2: 'fl2' }, blockDevices: ['/dev/sdx'] },
      paths: {
        monitorSocket: '/r/m',
        consolePipes: '/r/c',
        consoleLog: '/s/c',
        guestAgentSocket: '/r/a',
        ramFile: '/s/r',
        addedRamFile: '/s/a',
      },
    }),
  );

/** Each JSON option of a command line with the command that takes its value. */
function describedIn(argv: readonly string[]): { command: string; value: object }[] {
  return argv.flatMap((flag, index) => {
    const command = COMMANDS[flag];
    return command === undefined ? [] : [{ command, value: JSON.parse(argv[index + 1] ?? '') }];
  });
}

describe.each(recordedSchemas())('on the command line of QEMU $version', (schema) => {
  test('every object, block node and network of any spec fits the schema of the command that makes it', () => {
    fc.assert(
      fc.property(anySpec, anyHost, (spec, host) => {
        const described = describedIn(buildArgs(spec, host));
        expect(described.length).toBeGreaterThan(0);
        expect(described.flatMap(({ command, value }) => schema.problemsOf(command, value))).toEqual([]);
      }),
      { numRuns: 300 },
    );
  });
});
