/**
 * The serial console of a running VM: `vm.console`. What comes is the end of the console's log and then what the guest writes, as the log
 * gets it, so that there is no hole and nothing doubled between the two, and no watcher holds up the guest or another one. What is
 * written goes to the guest (console-input.ts), by another way (console-pipes.ts). The stream ends with the VM's process, once all that it wrote has been given.
 */
import type { Params } from '../../../shared/protocol/methods.ts';
import type { Vms } from '../api.ts';
import { type OpenedLog, openLog } from '../logs/vm-logs.ts';
import { QMP_STATES } from '../machine.ts';
import { enterConsole } from './console-input.ts';

export interface OpenedConsole extends OpenedLog {
  readonly generation: number;
}

export function openConsole(
  vms: Pick<Vms, 'operate' | 'openLog'>,
  { vm: name, historyBytes, readOnly }: Params<'vm.console'>,
  signal: AbortSignal,
): Promise<OpenedConsole> {
  const operation = { doing: 'opening the console of', inTurn: false, wakes: true, states: QMP_STATES } as const;
  return vms.operate(name, operation, { signal }, async (vm) => {
    const writer = readOnly ? undefined : enterConsole(vm);
    try {
      const opened = await openLog(vms, {
        vm: name,
        source: 'console',
        tail: { bytes: historyBytes },
        follow: true,
        end: vm.signal,
        input: writer?.write,
      });
      opened.stream.once('close', () => writer?.leave());
      return { ...opened, generation: vm.generation };
    } catch (error) {
      writer?.leave();
      throw error;
    }
  });
}
