/**
 * Symptom: one enrolled host ended the hub for want of memory, and left no operator a list of hosts or VMs.
 * Cause: what a host says of itself had no length but that of a message. The hub kept events of 256 KiB that came before the list of VMs, or
 * while it asked for earlier ones, as many as the host liked, and put texts of any length into the lists that it gives to operators.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { addTestHost, type TestAgent } from '../support/test-agent.ts';
import { startTestHub } from '../support/test-hub.ts';

const EVENT = { epoch: 'e', time: '2026-01-01T00:00:00.000Z', type: 'vm.started', vm: 'web', state: 'running', data: {} };
const PAGE = { epoch: 'e', events: [], missed: 0, lastSeq: 0 };
const INFO = { architecture: 'x', cpus: 1, memoryBytes: 1, qemu: {}, kvm: { available: false }, vsock: { available: false } };
const BIG = 200_000;
const NEVER = () => new Promise(() => {});

setFlagsFromString('--expose-gc');
// SAFETY: the flag above makes it.
const collect = runInNewContext('gc') as () => void;

function keptBytes(): number {
  collect();
  return process.memoryUsage().heapUsed;
}

/** Resolves once the hub has read all of them. */
async function tell({ line }: TestAgent, count: number, event: (index: number) => object): Promise<void> {
  for (let index = 0; index < count; index++) {
    line.peer.notify('vm.event', { ...EVENT, seq: index + 10, ...event(index) });
    if (index % 50 === 0) await line.peer.call('is.read', {}).catch(() => {});
  }
  await line.peer.call('is.read', {}).catch(() => {});
}

test.for([
  ['the list of VMs', { 'vm.list': NEVER }],
  ['earlier events', { 'vm.list': () => ({ vms: [] }), 'vm.events': NEVER }],
] as const)('events that come before %s leave no more than their names', async ([, methods], { onTestFinished }) => {
  await using hub = await startTestHub();
  const agent = await addTestHost(hub, 'edge', { methods: { 'host.info': () => INFO, ...methods } });
  // The hub must not wait for the answers when it stops.
  onTestFinished(() => agent[Symbol.asyncDispose]());
  const before = keptBytes();
  await tell(agent, 300, () => ({ data: { text: 'x'.repeat(BIG) } }));
  expect(keptBytes() - before).toBeLessThan(20 * BIG);
});

test('an event is kept without data that are too long, and lists have room for all', async () => {
  await using hub = await startTestHub();
  let asked = 0;
  await using agent = await addTestHost(hub, 'edge', {
    methods: { 'vm.events': () => PAGE, 'host.info': () => (asked++, { ...INFO, architecture: 'x'.repeat(261_000) }) },
  });
  await expect.poll(() => asked).toBe(1);
  await tell(agent, 1, () => ({ seq: 1, data: { text: 'x'.repeat(BIG) } }));
  const events = async () => JSON.stringify((await hub.post('event.list', { since: 0 })).body);
  await expect.poll(events).toContain('"omittedLength":200011');
  expect((await hub.post('host.list')).body).toMatchObject({ result: { hosts: [{ host: 'edge' }] } });
});

test('a state that is longer than a word ends the line', async () => {
  await using hub = await startTestHub();
  await using agent = await addTestHost(hub, 'edge', { methods: { 'vm.events': () => PAGE } });
  await tell(agent, 1, () => ({ state: 'x'.repeat(65) }));
  expect(await agent.line.closed).toMatchObject({ code: 1002, reason: expect.stringContaining('vm.event.state') });
});

test('more events than a host may tell end its line', async () => {
  await using hub = await startTestHub();
  const methods = { 'vm.events': () => PAGE, 'host.info': () => INFO, 'vm.get': () => ({ name: 'web', uuid: 'u' }) };
  await using agent = await addTestHost(hub, 'edge', { methods });
  await expect.poll(() => agent.calls).toContain('host.info');
  await tell(agent, 25_000, () => ({}));
  expect(await agent.line.closed).toMatchObject({ code: 1008, reason: expect.stringContaining('more than 20000 events') });
});
