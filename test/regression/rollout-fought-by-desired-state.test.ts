/**
 * A rollout over VMs of a document failed on every host: between its commands the host saw a VM at rest that was to run, and started it, so that it
 * could not be given its new spec.
 */
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { VmsInHand } from '../../agent/desired/vms-in-hand.ts';
import { newCommandId } from '../../shared/command-id.ts';
import { APPLY_LABEL, SPEC_LABEL } from '../../shared/protocol/methods-desired.ts';
import { rolloutActor } from '../../shared/protocol/rollout-actor.ts';
import { FakeHub } from '../support/fake-hub.ts';
import { accepted, done, journalOf, live, START_MS } from '../support/journal-commands.ts';
import { MemoryFiles } from '../support/journal-files.ts';
import { becomes, startPlayedFleet } from '../support/played-fleet.ts';
import { startPlayedHost } from '../support/played-host.ts';

const MIB = 1024 ** 2;
const WIDE = { budget: { maxUnavailable: '100%', perZone: '100%' }, zones: { order: 'concurrent' } };

describe('a rollout over VMs that a document has made', () => {
  it('changes them, and takes them back, and they are kept as before after it', async () => {
    await using fleet = await startPlayedFleet(['a1', 'a2', 'b1']);
    const has = (name: string) => fleet.hosts.map(({ vms }) => vms.list().find((vm) => vm.name === name));
    const shown = () => has('web').map((vm) => `${vm?.state} ${(vm?.spec.memory.bytes ?? 0) / MIB}`);
    const all = (vm: string) => [vm, vm, vm];
    await fleet.call('fleet.apply', { document: { name: 'tier', vms: [{ spec: { name: 'web', memory: { bytes: '64MiB' } } }] } });
    await expect.poll(shown, { timeout: 20_000 }).toEqual(all('running 64'));

    const steps = [{ kind: 'vm', vms: { names: ['web'] }, patch: { memory: { bytes: 96 * MIB } } }];
    await fleet.call('rollout.start', { rollout: 'r1', spec: { ...WIDE, selector: {}, steps, waves: [{ hosts: '100%' }] } });
    await becomes(fleet, 'r1', 'completed');
    expect(shown()).toEqual(all('running 96'));
    await fleet.call('rollout.rollback', { rollout: 'r1' });
    await becomes(fleet, 'r1', 'rolled-back');
    expect(shown()).toEqual(all('running 64'));

    // Beside it, the host keeps what is in nobody's hand.
    await fleet.call('fleet.apply', { document: { name: 'more', vms: [{ spec: { name: 'db' } }] } });
    await expect.poll(() => has('db').map((vm) => vm?.state), { timeout: 20_000 }).toEqual(all('running'));
  });
});

describe('a VM that a rollout has in hand', () => {
  it('is in it while a command runs, for two minutes after, and then no more', () => {
    let nowMs = 0;
    let left = 0;
    const inHand = new VmsInHand({ journal: journalOf().journal, now: () => nowMs });
    inHand.listen(() => void left++);
    const [stop, again] = [inHand.take('web'), inHand.take('web')];
    nowMs = 600_000;
    expect([inHand.leftAloneMs('web') > 0, inHand.leftAloneMs('db')]).toEqual([true, 0]);
    stop[Symbol.dispose]();
    again[Symbol.dispose]();
    nowMs += 119_000;
    expect([inHand.leftAloneMs('web'), left]).toEqual([1000, 2]);
    nowMs += 1000;
    expect(inHand.leftAloneMs('web')).toBe(0);
  });
});

const SPEC = { name: 'web', labels: { [APPLY_LABEL]: 'tier', [SPEC_LABEL]: 'one' } };
/** Of a command that a rollout gives. */
const meta = () => ({ commandId: newCommandId(), actor: rolloutActor('r1'), fence: { scope: 'rollout/r1', epoch: 1 } });

describe('an agent that was started anew in the middle of a rollout', () => {
  it('leaves the VM to it that was stopped to be given another spec', async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), 'in-hand-'));
    await using hub = await FakeHub.start();
    const line = hub.nextLine();
    const first = await startPlayedHost(hub.address, 'a1', { directory: directory.path, token: 'token-1' });
    const { vms } = first;
    {
      await using _ = first;
      const { peer } = await line;
      const desired = { generation: 1, hold: false, vms: [{ spec: SPEC, power: 'running', replace: 'at-once' }] };
      await peer.call('desired.set', desired);
      await expect.poll(() => vms.list().find(({ name }) => name === 'web')?.state, { timeout: 20_000 }).toBe('running');
      await peer.call('vm.stop', { vm: 'web' }, { meta: meta() });
    }
    const nextLine = hub.nextLine();
    await using _ = await startPlayedHost(hub.address, 'a1', { directory: directory.path, token: 'token-1', vms });
    const { peer } = await nextLine;
    expect(await peer.call('desired.get', {})).toMatchObject({
      vms: [{ vm: 'web', upkeep: 'waiting', reason: 'a rollout has it in hand' }],
    });
    const spec = { ...SPEC, memory: { bytes: 96 * MIB } };
    await peer.call('vm.redefine', { vm: 'web', spec }, { meta: meta() });
    await peer.call('vm.start', { vm: 'web' }, { meta: meta() });
    expect(vms.get('web')).toMatchObject({ state: 'running', spec: { memory: { bytes: 96 * MIB } } });
  });

  it('knows from its journal what is in hand, wherever it was killed, and for how long', async () => {
    const actor = rolloutActor('r1');
    const stages = ['a', 'b', 'c'].flatMap((id) => [accepted(id, { actor }), done(id, { actor })]);
    const { journal, files, clock, open } = journalOf();
    for (const operation of stages) {
      await (operation.endedAt === undefined ? journal.accept(operation) : journal.finish(operation));
      const inHand = new VmsInHand({
        journal: open(MemoryFiles.of(files.image())),
        now: () => 0,
        wallClock: () => START_MS + 20_000,
      });
      await inHand.recall();
      expect(inHand.leftAloneMs('web')).toBe(operation.endedAt === undefined ? 120_000 : 100_000);
      expect(inHand.leftAloneMs('db')).toBe(0);
    }
    // What people have done is no reason, nor what is long ago; a clock that was set back keeps it no longer.
    await live(journal, 'd', { vm: 'db', actor: 'operator' });
    const left = async (wallMs: number) => {
      const inHand = new VmsInHand({ journal, now: () => 0, wallClock: () => wallMs });
      await inHand.recall();
      return ['web', 'db'].map((vm) => inHand.leftAloneMs(vm));
    };
    expect(await left(START_MS + 120_000)).toEqual([0, 0]);
    expect(await left(START_MS - 3_600_000)).toEqual([120_000, 0]);
    expect(clock.nowMs).toBe(START_MS);
  });
});
