import { describe, expect, test } from 'vitest';
import { OOB_COMMANDS } from '../../agent/qmp/client.ts';
import { QMP_COMMANDS, type QmpArguments, type QmpCommandName, runCommand } from '../../agent/qmp/commands.ts';
import { recordedSchemas } from '../support/qmp-schema.ts';

/** For each command that takes arguments, sets that between them use every argument and every value of its enumerations. */
const SAMPLES: { readonly [Name in QmpCommandName]?: readonly QmpArguments<Name>[] } = {
  'set-action': [
    { reboot: 'reset', shutdown: 'poweroff', panic: 'pause' },
    { reboot: 'shutdown', shutdown: 'pause', panic: 'shutdown' },
    { panic: 'exit-failure' },
    { panic: 'none' },
  ],
};

const names = Object.keys(QMP_COMMANDS);
const schemas = recordedSchemas();

test('the recorded schemas are those of the oldest and the newest QEMU supported', () => {
  expect(schemas.map(({ version }) => version)).toEqual(['7.2', '10.0']);
});

describe.each(schemas)('against the schema of QEMU $version', (schema) => {
  test.each(names)('%s is known, with its arguments', (name) => {
    const samples: readonly object[] = Object.entries(SAMPLES).find(([command]) => command === name)?.[1] ?? [{}];
    expect(samples.flatMap((args) => schema.problemsOf(name, args))).toEqual([]);
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
