/** Many VMs of one agent, and an agent that is killed in the middle of everything. */
import { existsSync, readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { identityOf } from '../../agent/process-identity.ts';
import { startManager } from '../support/manager-process.ts';
import { spec, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const VMS = 20;
/** An agent that comes back has found all of them within this time. */
const ADOPTED_MS = 2_000;

test.skipIf(missing !== undefined)(`${VMS} VMs are all served at once, and all found again after kill -9`, async () => {
  await using host = await testHost({ limits: { maxVms: VMS, maxStreamsPerVm: 1 } });
  const { vsock: _, logger: __, observer: ___, ...settings } = host.options;
  await host.manager.close();
  const names = Array.from({ length: VMS }, (_, n) => `vm-${n}`);

  await using first = await startManager(settings);
  const running = await Promise.all(names.map((name) => first.call('run', spec({ name, memory: { bytes: '32MiB' } }))));
  expect(new Set(running.map(({ pid }) => pid)).size).toBe(VMS);
  await Promise.all(names.map((name) => first.call('pause', name)));
  const [half = '', ...others] = names;
  // Killed with commands under way: what each of them did shows afterwards in its VM.
  const cutOff = others.map((name) => first.call('resume', name).catch(({ message }: Error) => message));
  expect(await first.call('resume', half)).toMatchObject({ state: 'running' });
  await first.kill();
  const failures = (await Promise.all(cutOff)).filter((outcome) => typeof outcome === 'string');
  expect(failures).toEqual(failures.map(() => 'killed'));

  await using second = await startManager(settings);
  expect(second.openedInMs).toBeLessThan(ADOPTED_MS);
  const found = await second.call('list');
  expect(found.map(({ name, pid }) => `${name} ${pid}`).sort()).toEqual(running.map(({ name, pid }) => `${name} ${pid}`).sort());
  for (const { state } of found) expect(['running', 'paused']).toContain(state);
  // Records alone would tell all that, and opening waits no longer than it likes: what a guest has is told by a session with its process.
  expect(found.filter(({ memory }) => memory === undefined).map(({ name }) => name)).toEqual([]);
  const resumed = await Promise.all(names.map((name) => second.call('resume', name)));
  expect(new Set(resumed.map(({ state }) => state))).toEqual(new Set(['running']));

  // Every event of both agents is there once, and the account of each VM fits what was done with it.
  const { events } = await second.call('events');
  expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index + 1));
  for (const name of names) {
    const types = events.filter(({ vm }) => vm === name).map(({ type }) => type);
    expect(types).toEqual(['vm.created', 'vm.started', 'vm.paused', 'vm.resumed']);
  }

  await Promise.all(names.map((name) => second.call('delete', name)));
  for (const { pid } of running) expect(identityOf(pid ?? 0)).toBeUndefined();
  expect(existsSync(settings.runDir) ? readdirSync(settings.runDir) : []).toEqual([]);
  await second.kill();
});

test.skipIf(missing !== undefined)('what is known of VMs is told without a question to their QEMUs', async () => {
  const asked: string[] = [];
  const observer = { onCommand: ({ command }: { command: string }) => void asked.push(command), onEvent() {} };
  await using host = await testHost({ limits: { maxVms: 100, maxStreamsPerVm: 1 }, observer });
  const { manager } = host;
  const names = Array.from({ length: 100 }, (_, n) => `vm-${n}`);
  await Promise.all(names.map((name) => manager.create(spec({ name, memory: { bytes: '32MiB' } }))));
  await Promise.all([manager.start('vm-0'), manager.start('vm-1')]);
  asked.length = 0;
  expect(manager.list()).toHaveLength(100);
  expect(asked).toEqual([]);
  expect(manager.get('vm-0')).toMatchObject({ state: 'running' });
  expect(asked.length).toBeLessThanOrEqual(1);
});
