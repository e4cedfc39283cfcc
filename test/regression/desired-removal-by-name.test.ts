/**
 * A VM that is desired no more was stopped and then deleted by its name: whoever deleted it while it stopped, and made another of that name,
 * lost that one.
 */
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { readDesired, writeDesired } from '../../agent/desired/desired-file.ts';
import { DesiredKeeper, type KeeperOptions } from '../../agent/desired/keeper.ts';
import { FakeVms, fakeVmInfo } from '../support/fake-vms.ts';
import { silent } from '../support/vm.ts';

it.each([
  ['stays when it is another by then', true, []],
  ['goes when it is still the one', false, ['web']],
])('a VM that is stopped to be removed %s', async (_, isReplaced, gone) => {
  const stateDir = await mkdtemp(join(tmpdir(), 'fl-keeper-'));
  onTestFinished(() => rm(stateDir, { recursive: true, force: true }));
  const vm = { ...fakeVmInfo('web') };
  const vms = new FakeVms([]);
  vms.infos.push(vm);
  await writeDesired(stateDir, { state: { generation: 1, hold: false, vms: [] }, owned: { web: vm.uuid } });
  const deleted: string[] = [];
  const handlers = {
    'vm.stop': () => {
      if (isReplaced) vms.infos.splice(0, 1, { ...fakeVmInfo('web'), uuid: randomUUID() });
      return { vm, endedBy: 'quit' };
    },
    'vm.delete': ({ vm: name }: { vm: string }) => {
      deleted.push(name);
      vms.infos.splice(0, 1);
      return {};
    },
  };
  // SAFETY: no other step is taken here.
  const options = { stateDir, vms, handlers: handlers as unknown as KeeperOptions['handlers'], logger: silent };
  await using _keeper = await DesiredKeeper.open({ ...options, policy: { checkMethod: () => {} } });
  await expect.poll(async () => (await readDesired(stateDir)).owned).toEqual({});
  expect(deleted).toEqual(gone);
});
