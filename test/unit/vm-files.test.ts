import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { lastLine, sizeOf, tailOf } from '../../agent/vm/logs/log-file.ts';
import { type VmRecord, VmStore } from '../../agent/vm/store.ts';
import { spec } from '../support/vm.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'fl-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

function recordOf(name: string): VmRecord {
  return {
    version: 1,
    uuid: '6f2a1c58-6a0d-4e0c-9a57-0c4f0b8a1d11',
    spec: spec({ name, disks: [{ path: '/a "b",\n' }] }),
    createdAt: '2026-01-02T03:04:05.678Z',
    generation: 3,
    state: 'stopped',
    ready: false,
  };
}

describe('the store', () => {
  const open = () => new VmStore({ stateDir: join(directory, 's'), runDir: join(directory, 'r') });

  test('gives back what it was given', async () => {
    const store = open();
    await store.open();
    await store.create(recordOf('web'));
    await store.save({ ...recordOf('web'), generation: 4 });
    expect(await open().open()).toEqual([{ kind: 'vm', name: 'web', record: { ...recordOf('web'), generation: 4 } }]);
  });

  test('changes a record that it was to prepare a save of only by the last step of that', async () => {
    const store = open();
    await store.open();
    await store.create(recordOf('web'));
    const read = async () => (await open().open()).map((stored) => stored.kind === 'vm' && stored.record.generation);
    const dropped = await store.prepare({ ...recordOf('web'), generation: 5 });
    expect(await read()).toEqual([3]);
    await dropped.drop();
    await expect(dropped.replace()).rejects.toMatchObject({ code: 'ENOENT' });
    const prepared = await store.prepare({ ...recordOf('web'), generation: 7 });
    await store.save({ ...recordOf('web'), generation: 6 });
    expect(await read()).toEqual([6]);
    await prepared.replace();
    expect(await read()).toEqual([7]);
    await prepared.drop();
    expect(await read()).toEqual([7]);
  });

  test('leaves nothing of a VM that was removed', async () => {
    const store = open();
    await store.open();
    await store.create(recordOf('web'));
    await store.makeRunDir('web');
    await store.remove('web');
    expect(existsSync(store.paths('web').dir)).toBe(false);
    expect(existsSync(store.paths('web').runDir)).toBe(false);
    expect(await store.open()).toEqual([]);
  });

  test.each([
    ['no JSON', '{"version": 1', /could not read .*vm\.json: /],
    ['of another shape', '{"version":1}', /vm\.uuid/],
    ['of another VM', JSON.stringify(recordOf('db')), /the record of VM 'db'/],
  ])('tells a record that is %s as broken and leaves it alone', async (_, text, reason) => {
    const store = open();
    await store.open();
    await store.create(recordOf('fine'));
    const { dir, record } = store.paths('web');
    mkdirSync(dir);
    writeFileSync(record, text);
    const stored = await store.open();
    expect(stored.map(({ kind, name }) => `${name}: ${kind}`)).toEqual(['fine: vm', 'web: broken']);
    expect(stored[1]).toMatchObject({ reason: expect.stringMatching(reason) });
    expect(readFileSync(record, 'utf8')).toBe(text);
  });

  test('removes what a creation that was cut short has left', async () => {
    const store = open();
    await store.open();
    mkdirSync(join(store.paths('web').dir, 'logs'), { recursive: true });
    writeFileSync(`${store.paths('web').record}.new`, '{');
    expect(await store.open()).toEqual([]);
    expect(existsSync(store.paths('web').dir)).toBe(false);
  });

  test('leaves alone what is no VM of ours', async () => {
    const store = open();
    await store.open();
    const copy = join(store.paths('web').dir, '..', 'web.before');
    mkdirSync(copy);
    expect(await store.open()).toEqual([]);
    expect(existsSync(copy)).toBe(true);
  });

  test('refuses a run directory whose sockets would not fit, before anything is made', async () => {
    const store = new VmStore({ stateDir: join(directory, 's'), runDir: join(directory, 'r'.repeat(90)) });
    await store.open();
    await expect(store.create(recordOf('web'))).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/bytes and a unix socket may have 107: give the VM a shorter name/),
    });
    expect(existsSync(store.paths('web').dir)).toBe(false);
  });
});

describe('the tail of a log', () => {
  test('begins where this process began', () => {
    const log = join(directory, 'log');
    writeFileSync(log, 'of an earlier start\n');
    const from = sizeOf(log);
    expect(tailOf(log, { from })).toBe('');
    appendFileSync(log, 'mine\n');
    expect(tailOf(log, { from })).toBe('mine\n');
  });

  test('is cut to whole lines', () => {
    const log = join(directory, 'log');
    writeFileSync(log, 'first line\nsecond line\nthird\n');
    expect(tailOf(log, { maxBytes: 10 })).toBe('third\n');
  });

  test('of a file that is not there is empty', () => {
    expect(tailOf(join(directory, 'none'))).toBe('');
    expect(sizeOf(join(directory, 'none'))).toBe(0);
  });

  test('ends with a line that says something', () => {
    expect(lastLine('one\r\ntwo\r\n\r\n')).toBe('two');
    expect(lastLine('')).toBe('');
  });
});
