/** Start and stop of a VM with its vsock daemon, again and again; short in test/guest, long in test/soak. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { artefacts } from '../../cli/image/cache.ts';
import type { ManagerSettings } from './programs/vm-manager.ts';
import { testHost, whyNoQemu } from './vm.ts';

export interface CyclesOrder {
  readonly settings: ManagerSettings;
  readonly vsockDaemon: string;
  readonly cycles: number;
  /** Cycles before memory and descriptors are first looked at. */
  readonly warmUp: number;
}

export interface CyclesResult {
  readonly grownBytes: number;
  readonly newFds: readonly string[];
  readonly generation: number;
}

const PROGRAM = fileURLToPath(new URL('./programs/vm-cycles.ts', import.meta.url));

export function whyNoCycles(): string | undefined {
  return whyNoQemu() ?? (artefacts().vhostDeviceVsock === undefined ? 'no vhost-device-vsock: npm run setup' : undefined);
}

/** Runs them, and expects that nothing is left: no process, no socket, no descriptor, no directory. */
export async function runCycles({ cycles, warmUp }: { cycles: number; warmUp: number }): Promise<CyclesResult> {
  await using host = await testHost();
  await host.manager.close();
  const { vsock: _, logger: __, observer: ___, ...settings } = host.options;
  const order: CyclesOrder = { settings, vsockDaemon: artefacts().vhostDeviceVsock ?? '', cycles, warmUp };
  const child = fork(PROGRAM, [JSON.stringify(order)]);
  const ended = once(child, 'exit');
  const answer = once(child, 'message');
  answer.catch(() => {});
  // SAFETY: the program sends this one message.
  const [result] = (await Promise.race([answer, ended])) as [CyclesResult];
  expect(await ended).toEqual([0, null]);
  expect(result).toMatchObject({ generation: cycles, newFds: [] });
  expect(programsBelow(settings.runDir)).toEqual([]);
  expect(readdirSync(settings.runDir)).toEqual([]);
  expect(readdirSync(`${settings.stateDir}/vms`)).toEqual([]);
  return result;
}

/** Command lines of all programs that name something below the directory. */
function programsBelow(directory: string): string[] {
  const pids = readdirSync('/proc').filter((entry) => /^\d+$/.test(entry));
  const commands = pids.map((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
    } catch {
      return '';
    }
  });
  return commands.filter((command) => command.includes(`${directory}/`));
}
