/**
 * Symptom: a VM whose record could not be read, such as that of a newer agent, was deleted by force as its error tells people to, and its
 * QEMU ran on for ever, known to nobody.
 * Cause: only the files were removed; what runs is found by the record.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { identityOf, isAlive, signalProcess } from '../../agent/process-identity.ts';
import { spec, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.log(`skipped: ${missing}`);

test.skipIf(missing !== undefined)('a VM with a broken record that is deleted by force leaves no process', async () => {
  await using host = await testHost();
  const { pid = 0 } = await host.manager.run(spec({ name: 'web' }));
  const qemu = identityOf(pid);
  if (qemu === undefined) throw new Error('QEMU does not run');
  using undo = new DisposableStack();
  undo.defer(() => void signalProcess(qemu, 'SIGKILL'));
  await host.manager.close();
  await writeFile(join(host.options.stateDir, 'vms', 'web', 'vm.json'), '{"version":2}');
  const manager = await host.restart();
  expect(manager.broken).toMatchObject([{ name: 'web' }]);
  expect(isAlive(qemu)).toBe(true);
  await manager.delete('web', { force: true });
  expect(isAlive(qemu)).toBe(false);
  await manager.create(spec({ name: 'web' }));
});
