/**
 * A VM that has crashed has no process, and so nobody knew when that had been started: the keeper of desired state took every crash for one
 * that came at once ("it crashed NaN s after it was started"), and waited ever longer with VMs that had run for days in between.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import { writeDesired } from '../../agent/desired/desired-file.ts';
import { DesiredKeeper, type KeeperOptions } from '../../agent/desired/keeper.ts';
import { FairleadError } from '../../shared/errors.ts';
import { FakeVms, fakeVmInfo } from '../support/fake-vms.ts';
import { silent } from '../support/vm.ts';

const DAY_MS = 86_400_000;

/** A VM that the keeper starts, and a way to have it crash. */
async function kept() {
  const stateDir = await mkdtemp(join(tmpdir(), 'fl-keeper-'));
  onTestFinished(() => rm(stateDir, { recursive: true, force: true }));
  const vm = { ...fakeVmInfo('web', 'stopped') };
  const vms = new FakeVms([]);
  vms.infos.push(vm);
  let started = Promise.withResolvers<void>();
  let failures = 0;
  let elapsedMs = 0;
  const start: KeeperOptions['handlers']['vm.start'] = () => {
    if (failures > 0) {
      failures -= 1;
      setImmediate().then(
        () => started.resolve(),
        () => {},
      );
      throw new FairleadError('PROCESS_FAILED', 'no');
    }
    vm.state = 'running';
    delete vm.exit;
    started.resolve();
    return vm;
  };
  const desired = { spec: vm.spec, power: 'running', replace: 'at-once', graceMs: 0 } as const;
  await writeDesired(stateDir, { state: { generation: 1, hold: false, vms: [desired] }, owned: { web: vm.uuid } });
  // SAFETY: no other step is taken here.
  const handlers = { 'vm.start': start } as KeeperOptions['handlers'];
  const keeper = await DesiredKeeper.open({
    stateDir,
    vms,
    handlers,
    policy: { checkMethod: () => {} },
    logger: silent,
    now: () => elapsedMs,
  });
  onTestFinished(() => keeper[Symbol.asyncDispose]());
  await started.promise;
  await setImmediate();
  const tell = (): void =>
    void vms.events.append({
      vm: 'web',
      type: 'vm.crashed',
      state: 'crashed',
      data: { generation: 1, reason: 'killed', code: null, signal: null },
    });
  return {
    /** `clockMs` is what the host's clock says of the same time. */
    crash(afterMs: number, clockMs = afterMs) {
      started = Promise.withResolvers();
      elapsedMs += afterMs;
      vm.state = 'crashed';
      vm.exit = { at: new Date(Date.now() + clockMs).toISOString(), reason: 'killed', code: null, signal: null, stderrTail: '' };
      tell();
    },
    failOnce() {
      failures = 1;
    },
    /** And noted. */
    async started(): Promise<void> {
      await started.promise;
      await setImmediate();
    },
    status: () => keeper.status().vms[0],
  };
}

it('a VM that crashes after days is started again at once, each time', async () => {
  const web = await kept();
  for (let n = 1; n <= 3; n++) {
    web.crash(n * DAY_MS);
    expect(web.status()).toEqual({ vm: 'web', upkeep: 'working' });
    await web.started();
  }
});

it('a VM that crashes after days and cannot be started then waits', async () => {
  const web = await kept();
  web.failOnce();
  web.crash(DAY_MS);
  await web.started();
  expect(web.status()).toEqual({ vm: 'web', upkeep: 'waiting', reason: 'no' });
});

it('a VM that crashes as soon as it is started waits, and it is told why', async () => {
  const web = await kept();
  web.crash(0);
  await web.started();
  web.crash(0);
  expect(web.status()).toEqual({ vm: 'web', upkeep: 'waiting', reason: 'it crashed 0 s after it was started' });
});

it('how long a VM ran is told by no clock that can be set', async () => {
  const web = await kept();
  web.crash(1_800_000, -1_800_000);
  expect(web.status()).toEqual({ vm: 'web', upkeep: 'working' });
  await web.started();
  web.crash(0, 3_600_000);
  await web.started();
  web.crash(0, 3_600_000);
  expect(web.status()).toMatchObject({ upkeep: 'waiting', reason: 'it crashed 0 s after it was started' });
});
