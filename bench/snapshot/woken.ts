/**
 * What a guest behind a vhost-user vsock adds to a suspend and a resume: QEMU cannot save that device, so the guest lets go of it and gets
 * another. The demo guest, with two CPUs, under QEMU's emulator where there is no KVM: its driver is the most of it.
 */
import { once } from 'node:events';
import type { HubConnection } from '../../cli/connection.ts';
import { demoImage } from '../../cli/image/demo-image.ts';
import { guestSpec, startLine } from '../line/fixture.ts';
import type { Measurement, Promised } from '../measure.ts';

const HALF_A_SECOND: Promised = { direction: 'at-most', kind: 'absolute', limit: 500 };
const THREE_TENTHS: Promised = { direction: 'at-most', kind: 'absolute', limit: 300 };
const ECHO_PORT = 7;
const VM = 'woken';

/** From `stream.open` on a VM that sleeps to the first byte that its guest sends, beside the same on one that is awake. */
export function firstByte(directory: string): Measurement {
  return {
    name: 'first byte over a woken stream, 2 CPUs',
    unit: 'ms',
    ...HALF_A_SECOND,
    async prepare() {
      await using scope = new AsyncDisposableStack();
      const operator = await runGuest(scope, directory);
      const ours = async (): Promise<number> => {
        await operator.call('vm.suspend', { vm: VM });
        return timeOfEcho(operator);
      };
      const all = scope.move();
      return { ours, baseline: () => timeOfEcho(operator), [Symbol.asyncDispose]: () => all.disposeAsync() };
    },
  };
}

/** The transport's part of a suspend and of the resume after it, alone. */
export function unplugAndPlug(directory: string): Measurement {
  return {
    name: 'vsock unplugged and plugged',
    unit: 'ms',
    ...THREE_TENTHS,
    async prepare() {
      await using scope = new AsyncDisposableStack();
      const operator = await runGuest(scope, directory);
      const vsock = { readyPort: demoImage()?.readyPort };
      const ours = async (): Promise<number> => {
        const startedAt = performance.now();
        await operator.call('vsock.detach', { vm: VM });
        await operator.call('vsock.attach', { vm: VM, vsock });
        const ms = performance.now() - startedAt;
        // Until its driver has it, the guest would not let go of it again.
        await timeOfEcho(operator);
        return ms;
      };
      const all = scope.move();
      return { ours, baseline: async () => Number.NaN, [Symbol.asyncDispose]: () => all.disposeAsync() };
    },
  };
}

async function runGuest(scope: AsyncDisposableStack, directory: string): Promise<HubConnection> {
  const { operator } = await startLine(scope, directory);
  const vsock = { readyPort: demoImage()?.readyPort };
  const memory = { bytes: '256MiB', backing: 'file' } as const;
  await operator.call('vm.run', { spec: { ...guestSpec(VM), cpus: { count: 2 }, memory, vsock } });
  scope.defer(async () => void (await operator.call('vm.delete', { vm: VM, force: true })));
  await timeOfEcho(operator);
  return operator;
}

async function timeOfEcho(operator: HubConnection): Promise<number> {
  const startedAt = performance.now();
  const { stream } = await operator.openStream({ vm: VM, port: ECHO_PORT });
  stream.write('x');
  await once(stream, 'data');
  const ms = performance.now() - startedAt;
  stream.destroy();
  return ms;
}
