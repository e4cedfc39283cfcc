/**
 * A guest that works is suspended and resumed by agents that are killed at moments that nobody chose; after each the next agent finds it
 * asleep or awake, and its work goes on from where it was.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import type { VmManager } from '../../agent/vm/manager.ts';
import { artefacts } from '../../cli/image/cache.ts';
import { linuxHost, runLinux } from './linux-vm.ts';
import { startManager } from './manager-process.ts';
import { beginWork, FILE_RAM } from './working-guest.ts';

/** Longer than a suspend or a resume on a calm machine, so that some of them come to their end. */
const LONGEST_MS = 600;

export interface SleepCycles {
  readonly cycles: number;
  /** From 0 to 1, one for each cycle: when its agent is killed. */
  readonly random: () => number;
}

/** The states in which the VM was found. */
export async function runSleepCycles({ cycles, random }: SleepCycles): Promise<Readonly<Record<string, number>>> {
  await using host = await linuxHost();
  const { vsock: _, logger: __, ...settings } = host.options;
  await runLinux(host.manager, { name: 'web', memory: FILE_RAM });
  const work = await beginWork(host.manager, 'web');
  const found: Record<string, number> = {};
  for (let cycle = 0; cycle < cycles; cycle++) {
    await host.manager.close();
    const agent = await startManager({ ...settings, vsockDaemon: artefacts().vhostDeviceVsock });
    // Even ones die in a suspend, odd ones in a resume, or after it.
    if (cycle % 2 === 1) await agent.call('suspend', 'web');
    const call = agent.call(cycle % 2 === 0 ? 'suspend' : 'resume', 'web').catch(() => {});
    await Promise.race([call, sleep(random() * LONGEST_MS)]);
    await agent.kill();
    await call;
    const manager: VmManager = await host.restart();
    const { state } = manager.get('web');
    found[state] = (found[state] ?? 0) + 1;
    // Whatever it was in the middle of, it can be reached, and has lost nothing.
    await work.goesOn(manager);
    expect(manager.get('web').state).toBe('running');
  }
  return found;
}
