/**
 * Symptom: a program that had broken out of a guest could have the agent, which may be root, write over any file of the host.
 * Cause: the note of a freeze was written where QEMU's user owns the directory, through whatever link stood in its place.
 */
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FreezeLeases } from '../../agent/vm/guest-agent/freeze.ts';
import type { LiveVm } from '../../agent/vm/live-vm.ts';
import { VmStore } from '../../agent/vm/store.ts';
import { fakeGuestAgent } from '../support/fake-guest-agent.ts';
import { silent, spec } from '../support/vm.ts';

test('a freeze writes nothing below the run directory of its VM', async () => {
  await using undo = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), 'fl-'));
  undo.defer(() => rm(directory, { recursive: true, force: true }));
  const paths = new VmStore({ stateDir: join(directory, 'state'), runDir: join(directory, 'run') }).paths('web');
  for (const path of [paths.dir, paths.runDir]) await mkdir(path, { recursive: true });
  const victim = join(directory, 'victim');
  await writeFile(victim, 'precious');
  for (const name of ['frozen.json', 'frozen.json.new']) await symlink(victim, join(paths.runDir, name));

  const { options } = fakeGuestAgent((agent) => agent.serve({ 'guest-fsfreeze-status': () => 'frozen' }));
  // SAFETY: all of a VM that a freeze asks for.
  const vm = {
    name: 'web',
    generation: 1,
    spec: spec({ name: 'web', guestAgent: { via: 'vsock', port: 5 } }),
    paths,
    signal: options.signal,
    dial: options.connect,
  } as unknown as LiveVm;
  using leases = new FreezeLeases({ operate: () => Promise.reject(new Error('nobody thaws yet')) }, silent);
  const frozen = await leases.freeze(vm, 60_000, { signal: options.signal, remainingMs: 20_000 });
  expect(frozen.status).toBe('frozen');
  expect((await leases.status(vm, { signal: options.signal, remainingMs: 20_000 })).thawsAt).toBe(frozen.thawsAt);
  expect(await readFile(victim, 'utf8')).toBe('precious');
});
