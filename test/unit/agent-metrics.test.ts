/** What /metrics says of sleep, snapshots and clones. */
import { expect, test } from 'vitest';
import { Telemetry } from '../../agent/telemetry.ts';
import { sharesRam } from '../../agent/vm/snapshot/ram-file.ts';
import type { VmInfo } from '../../shared/protocol/vm.ts';

const MIB = 1024 ** 2;

function telemetryOf(vms: readonly Pick<VmInfo, 'state' | 'memory'>[]): Telemetry {
  return new Telemetry({
    link: () => ({ state: 'down', attempts: 0 }) as never, // SAFETY: nothing of the link is looked at here.
    // SAFETY: state and memory are all that is counted.
    vms: () => vms as readonly VmInfo[],
    limitedBy: () => [],
    journal: () => ({ operations: 0, bytes: 0 }),
    onLoaded: () => {},
  });
}

async function linesOf(telemetry: Telemetry): Promise<string[]> {
  return (await (await telemetry.metrics()).render()).split('\n');
}

test('durations of milliseconds fall into buckets of their own', async () => {
  const telemetry = telemetryOf([]);
  telemetry.onSuspended({ durationMs: 8, deviceStateBytes: 288_000 });
  telemetry.onResumed({ durationMs: 45 });
  telemetry.onSnapshot({ mode: 'instant', durationMs: 70, storedBytes: 3 * MIB });
  const lines = await linesOf(telemetry);
  expect(lines).toEqual(
    expect.arrayContaining([
      'fairlead_vm_suspend_duration_seconds_bucket{le="0.005"} 0',
      'fairlead_vm_suspend_duration_seconds_bucket{le="0.01"} 1',
      'fairlead_vm_suspend_bytes_total 288000',
      'fairlead_vm_resume_duration_seconds_bucket{le="0.025"} 0',
      'fairlead_vm_resume_duration_seconds_bucket{le="0.05"} 1',
      'fairlead_snapshot_duration_seconds_count{mode="instant"} 1',
      `fairlead_snapshot_bytes_total{mode="instant"} ${3 * MIB}`,
      'fairlead_snapshot_bytes_total{mode="stream"} 0',
    ]),
  );
});

test('the RAM that clones share is counted while they run', async () => {
  const shares = { state: 'running', memory: { actualBytes: 64 * MIB, sharedBytes: 64 * MIB } } as const;
  const owns = { state: 'running', memory: { actualBytes: 64 * MIB } } as const;
  expect(await linesOf(telemetryOf([shares, owns, shares]))).toContain(`fairlead_vm_ram_shared_bytes ${128 * MIB}`);
});

test.each([
  ['{"qom-type":"memory-backend-file","mem-path":"/s/ram","share":false,"id":"ram0","size":1}', true],
  ['{"qom-type":"memory-backend-file","mem-path":"/r/web.ram","share":true,"id":"ram0","size":1}', false],
  ['{"qom-type":"memory-backend-ram","id":"ram0","size":1}', false],
])('%s is shared: %s', (object, shared) => {
  expect(sharesRam(['-object', object])).toBe(shared);
});
