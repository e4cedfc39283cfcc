/** Starts and stops one VM over and over in a process of its own, and says what that process has grown by; see ../vm-cycles.ts. */
import { vhostUserTransport } from '../../../agent/streams/vhost-user.ts';
import { trimMemory } from '../../../agent/trim-memory.ts';
import { VmManager } from '../../../agent/vm/manager.ts';
import { openFds } from '../inspect.ts';
import { silent, spec } from '../vm.ts';
import type { CyclesOrder, CyclesResult } from '../vm-cycles.ts';

// SAFETY: the parent wrote it.
const { settings, vsockDaemon, cycles, warmUp } = JSON.parse(process.argv[2] ?? '') as CyclesOrder;
const transport = vhostUserTransport({ binary: vsockDaemon, logger: silent });
const manager = await VmManager.open({ ...settings, vsock: { available: true, transport }, logger: silent });
await manager.create(spec({ name: 'web', memory: { bytes: '32MiB' }, vsock: {} }));

async function cycle(): Promise<void> {
  await manager.start('web');
  await manager.stop('web', { graceMs: 0 });
}

/** What an agent keeps once it has given back what it does not need, as it does when a VM has ended. */
function bytesNow(): number {
  trimMemory();
  return process.memoryUsage.rss();
}

for (let n = 0; n < warmUp; n++) await cycle();
const before = { bytes: bytesNow(), fds: openFds() };
for (let n = warmUp; n < cycles; n++) await cycle();
const after = { bytes: bytesNow(), fds: openFds() };
const result: CyclesResult = {
  grownBytes: after.bytes - before.bytes,
  newFds: [...after.fds].filter(([fd]) => !before.fds.has(fd)).map(([fd, what]) => `${fd} ${what}`),
  generation: manager.get('web').generation,
};
await manager.delete('web');
await manager.close();
process.send?.(result);
process.disconnect();
