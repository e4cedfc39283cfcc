import * as v from 'valibot';
import { describe, expect, test } from 'vitest';
import type { QmpEvent } from '../../agent/qmp/messages.ts';
import { EventLog } from '../../agent/vm/events.ts';
import { inputOfRunState, QemuEventReader } from '../../agent/vm/qemu-events.ts';
import { VmEvent } from '../../shared/protocol/vm-events.ts';

function at(seconds: number, name: string, data: QmpEvent['data'] = {}): QmpEvent {
  return { name, data, timestamp: { seconds: Math.floor(seconds), microseconds: Math.round((seconds % 1) * 1e6) } };
}

const read = (event: QmpEvent) => new QemuEventReader().read(event);

describe("QEMU's events", () => {
  test('that concern the guest become inputs with what matters of their data', () => {
    expect(read(at(1, 'SHUTDOWN', { guest: true, reason: 'guest-shutdown', later: {} }))).toEqual({
      kind: 'input',
      input: 'stop',
      data: { guest: true, reason: 'guest-shutdown' },
    });
    expect(read(at(1, 'GUEST_PANICKED', { action: 'pause', info: { type: 'pvpanic' } }))).toMatchObject({
      input: 'panic',
      data: { action: 'pause' },
    });
    const error = { action: 'stop', device: '', 'node-name': 'disk0-format', operation: 'write', nospace: true, reason: 'full' };
    expect(read(at(1, 'BLOCK_IO_ERROR', error))).toMatchObject({
      kind: 'input',
      input: 'io-error',
      data: { action: 'stop', node: 'disk0-format', operation: 'write', isOutOfSpace: true, reason: 'full' },
    });
  });

  test('that change no state become notices, each with the data of its type', () => {
    const log = new EventLog();
    const events = [
      at(1, 'WATCHDOG', { action: 'reset' }),
      at(1, 'BALLOON_CHANGE', { actual: 1 << 28 }),
      at(1, 'MEMORY_DEVICE_SIZE_CHANGE', { id: 'vmem0', size: 1 << 27, 'qom-path': '/machine' }),
      at(1, 'DEVICE_DELETED', { device: 'disk1', path: '/machine/peripheral/disk1' }),
      at(1, 'MIGRATION', { status: 'active' }),
      at(1, 'BLOCK_IO_ERROR', { action: 'report', device: '', operation: 'read', reason: 'broken' }),
    ];
    for (const event of events) {
      const word = read(event);
      if (word?.kind !== 'notice') throw new Error(`${event.name} is no notice`);
      const { type, data } = word.notice;
      // SAFETY: the very thing that the schema below is asked about.
      log.append({ vm: 'web', type, state: 'running', data: { generation: 1, ...data } } as never);
    }
    const told = log.query({}).events;
    expect(told.map(({ type }) => type)).toEqual([
      'vm.watchdog-fired',
      'vm.balloon-changed',
      'vm.memory-resized',
      'vm.device-removed',
      'vm.migration-changed',
      'vm.io-error',
    ]);
    for (const event of told) expect(v.parse(VmEvent, event)).toEqual(event);
  });

  test('that mean nothing here, or lack what they should have, are passed over', () => {
    const none = [
      at(1, 'RTC_CHANGE', { offset: 1 }),
      at(1, 'DEVICE_DELETED', { path: '/machine/peripheral/disk1/virtio-backend' }),
      at(1, 'BALLOON_CHANGE', { actual: -1 }),
      at(1, 'MIGRATION', {}),
    ];
    for (const event of none) expect(read(event)).toBeUndefined();
  });

  test('tell one reset once, however many the firmware makes of it', () => {
    const reader = new QemuEventReader();
    const asked = { guest: false, reason: 'host-qmp-system-reset' };
    const echo = { guest: true, reason: 'guest-reset' };
    const kinds = [
      at(1, 'RESET', asked),
      at(1.04, 'RESET', echo),
      at(1.041, 'RESET', echo),
      at(1.5, 'RESET', asked),
      at(1.6, 'RESET', echo),
      // The guest's own.
      at(9, 'RESET', echo),
      at(9.05, 'RESET', echo),
    ].map((event) => reader.read(event)?.kind);
    expect(kinds).toEqual(['input', 'reset-echo', 'reset-echo', 'input', 'reset-echo', 'input', 'reset-echo']);
  });

  test('of a disk that fails over and over are told once a second', () => {
    const reader = new QemuEventReader();
    const failed = (seconds: number) => reader.read(at(seconds, 'BLOCK_IO_ERROR', { action: 'report', operation: 'read' }));
    expect([1, 1.1, 1.9, 2, 2.5].map((seconds) => failed(seconds) !== undefined)).toEqual([true, false, false, true, false]);
  });

  test('are made up for by the run state, and none but running is taken for running', () => {
    expect(inputOfRunState('running')).toBe('resume');
    for (const status of ['paused', 'prelaunch', 'inmigrate', 'postmigrate', 'no-such-state']) {
      expect(inputOfRunState(status)).toBe('pause');
    }
    expect(inputOfRunState('internal-error')).toBe('panic');
  });
});
