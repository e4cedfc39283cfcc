import * as v from 'valibot';
import { describe, expect, test } from 'vitest';
import { OOB_COMMANDS } from '../../agent/qmp/client.ts';
import { QMP_COMMANDS, type QmpArguments, type QmpCommandName, runCommand } from '../../agent/qmp/commands.ts';
import { QMP_EVENT_NAMES } from '../../agent/qmp/event-names.ts';
import { recordedSchemas } from '../support/qmp-schema.ts';

/** For each command that takes arguments, sets that between them use every argument and every value of its enumerations. */
const SAMPLES: { readonly [Name in QmpCommandName]?: readonly QmpArguments<Name>[] } = {
  'set-action': [
    { reboot: 'reset', shutdown: 'poweroff', panic: 'pause' },
    { reboot: 'shutdown', shutdown: 'pause', panic: 'shutdown' },
    { panic: 'exit-failure' },
    { panic: 'none' },
  ],
  'migrate-set-capabilities': [
    {
      capabilities: [
        { capability: 'events', state: true },
        { capability: 'x-ignore-shared', state: false },
      ],
    },
  ],
  'migrate-set-parameters': [{ 'max-bandwidth': 0, 'downtime-limit': 300 }],
  migrate: [{ uri: 'unix:/run/x' }],
  'migrate-incoming': [{ uri: 'unix:/run/x' }],
  balloon: [{ value: 1 }],
  'qom-get': [{ path: '/objects/disk0-limits', property: 'limits' }],
  'qom-set': [{ path: '/machine/peripheral/vmem0', property: 'requested-size', value: 0 }],
  'x-query-virtio-status': [{ path: '/machine/peripheral/vsock0/virtio-backend' }],
  'qom-list': [{ path: '/machine/peripheral' }],
  'object-add': [{ 'qom-type': 'throttle-group', id: 'disk0-limits', limits: { 'bps-total': 1, 'iops-total-max': 2 } }],
  'object-del': [{ id: 'disk0-limits' }],
  // Properties of the device come besides; the schema does not know them.
  device_add: [{ driver: 'virtio-blk-pci', id: 'disk0', bus: 'slot0' }],
  device_del: [{ id: 'disk0' }],
  'blockdev-add': [
    { driver: 'file', 'node-name': 'disk0-file', filename: '/x', 'read-only': true, discard: 'unmap', aio: 'threads' },
    { driver: 'raw', 'node-name': 'disk0-format', file: 'disk0-file', discard: 'unmap' },
    { driver: 'qcow2', 'node-name': 'disk0-format', file: 'disk0-file', cache: { direct: true, 'no-flush': false } },
    { driver: 'throttle', 'node-name': 'disk0-throttle', 'throttle-group': 'disk0-limits', file: 'disk0-format' },
  ],
  'blockdev-del': [{ 'node-name': 'disk0-file' }],
  block_resize: [{ 'node-name': 'disk0-format', size: 1 }],
  'query-named-block-nodes': [{ flat: true }],
  'blockdev-open-tray': [{ id: 'cd0' }, { id: 'cd0', force: true }],
  'blockdev-close-tray': [{ id: 'cd0' }],
  'blockdev-remove-medium': [{ id: 'cd0' }],
  'blockdev-insert-medium': [{ id: 'cd0', 'node-name': 'cd0-format' }],
  netdev_add: [
    { type: 'tap', id: 'net0-dev', ifname: 'tap0', script: 'no', downscript: 'no', vhost: true },
    { type: 'user', id: 'net0-dev', hostfwd: [{ str: 'tcp:127.0.0.1:2222-:22' }] },
  ],
  netdev_del: [{ id: 'net0-dev' }],
  'chardev-add': [
    { id: 'vsock0-socket', backend: { type: 'socket', data: { addr: { type: 'unix', data: { path: '/x' } }, server: false } } },
  ],
  'chardev-remove': [{ id: 'vsock0-socket' }],
  getfd: [{ fdname: 'vsock0' }],
  closefd: [{ fdname: 'vsock0' }],
  'block-stream': [{ 'job-id': 'pull-disk0', device: 'disk0-format', base: '/x', speed: 0, 'auto-dismiss': false }],
  'job-cancel': [{ id: 'pull-disk0' }],
  'job-dismiss': [{ id: 'pull-disk0' }],
};

const rows = Object.entries(QMP_COMMANDS);
const names = rows.map(([name]) => name);
const schemas = recordedSchemas();

function samplesOf(name: string): readonly object[] {
  return Object.entries(SAMPLES).find(([command]) => command === name)?.[1] ?? [{}];
}

test.each(rows)('the samples of %s fit its row, and leave none of its arguments and values out', (name, { args }) => {
  const samples = samplesOf(name);
  for (const sample of samples) expect(v.safeParse(args, sample).issues).toBeUndefined();
  for (const [argument, schema] of Object.entries(args.entries)) {
    const given = samples.flatMap((sample) =>
      Object.entries(sample).flatMap(([key, value]) => (key === argument ? [value] : [])),
    );
    expect(given.length, argument).toBeGreaterThan(0);
    expect(given, argument).toEqual(expect.arrayContaining([...optionsOf(schema)]));
  }
});

function optionsOf(schema: v.GenericSchema): readonly unknown[] {
  const inner = 'wrapped' in schema ? schema.wrapped : schema;
  return typeof inner === 'object' && inner !== null && 'options' in inner && Array.isArray(inner.options) ? inner.options : [];
}

test('the recorded schemas are those of the oldest and the newest QEMU supported', () => {
  expect(schemas.map(({ version }) => version)).toEqual(['7.2', '10.0']);
});

describe.each(schemas)('against the schema of QEMU $version', (schema) => {
  test.each(names)('%s is known, with its arguments', (name) => {
    expect(samplesOf(name).flatMap((args) => schema.problemsOf(name, args))).toEqual([]);
  });

  test('every event that is listened for is one that QEMU sends', () => {
    expect(QMP_EVENT_NAMES.filter((name) => !schema.events.includes(name))).toEqual([]);
  });

  test('the commands that may go out-of-band are the same', () => {
    const notOurs = new Set(['qmp_capabilities', 'x-oob-test']);
    const allowed = schema.outOfBandCommands.filter((name) => !notOurs.has(name));
    expect(allowed.sort()).toEqual([...OOB_COMMANDS].sort());
  });

  test.each<[string, string, object, string[]]>([
    ['an unknown command', 'no-such', {}, ['no-such: no such command']],
    ['an unknown argument', 'stop', { now: true }, ['stop.now: is not known']],
    ['a missing argument', 'balloon', {}, ['balloon.value: is missing']],
    ['a wrong type', 'balloon', { value: '1' }, ['balloon.value: is no int']],
    ['a value that an enumeration lacks', 'set-action', { panic: 'explode' }, ['set-action.panic: "explode" is no value of it']],
    [
      'an unknown argument deep in a union',
      'blockdev-add',
      { driver: 'raw', 'node-name': 'disk0', file: { driver: 'file', filename: '/x', nope: 1 } },
      ['blockdev-add.file: fits no alternative'],
    ],
  ])('the check finds %s', (_case, command, args, problems) => {
    expect(schema.problemsOf(command, args)).toEqual(problems);
  });

  test('the check takes a nested command that is right', () => {
    const disk = {
      driver: 'qcow2',
      'node-name': 'disk0',
      discard: 'unmap',
      file: { driver: 'file', filename: '/x', aio: 'threads' },
    };
    expect(schema.problemsOf('blockdev-add', disk)).toEqual([]);
  });
});

describe('a typed command', () => {
  const runner = (value: unknown) => ({ execute: () => Promise.resolve(value) });

  test('drops members that it does not know and takes states that it does not know', async () => {
    const status = runCommand(runner({ running: false, status: 'wait-unplug', singlestep: false }), 'query-status');
    expect(await status).toEqual({ running: false, status: 'wait-unplug' });
  });

  test('refuses a result of a wrong form and says where', async () => {
    await expect(runCommand(runner([{ 'cpu-index': -1 }]), 'query-cpus-fast')).rejects.toMatchObject({
      code: 'PROTOCOL_ERROR',
      message: expect.stringContaining('0.cpu-index: '),
    });
  });
});
