/** What a release knows of its launcher's record. */
import { EventEmitter } from 'node:events';
import { expect, it } from 'vitest';
import { LauncherLine } from '../../agent/update/launcher-line.ts';

it('a release knows how often it crashed, until it is of use', async () => {
  const channel = new EventEmitter();
  const told: unknown[] = [];
  const send = (message: unknown): boolean => told.push(message) > 0;
  // SAFETY: nothing else of the process is used.
  const line = new LauncherLine(Object.assign(channel, { send }) as unknown as NodeJS.Process);
  const record = { current: 'installed', outcomes: [] };
  channel.emit('message', { type: 'hello', directory: '/r', release: 'installed', record: { ...record, crashes: 2 } });
  expect(await line.record()).toMatchObject({ crashes: 2 });
  line.connected();
  expect(told).toEqual([{ type: 'connected' }]);
  channel.emit('message', { type: 'settled', record });
  expect(await line.record()).toEqual(record);
});
