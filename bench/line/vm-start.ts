/** From the operator's call to its answer, against the same QEMU and the same vsock daemon spawned by hand. */
import { join } from 'node:path';
import { artefacts } from '../../cli/image/cache.ts';
import type { Measurement, Sides } from '../measure.ts';
import { startProgram } from '../programs.ts';
import { guestSpec, startLine } from './fixture.ts';
import type { BareStart } from './programs/bare-start.ts';

const VM = 'start';

export function vmStart(directory: string): Measurement {
  return {
    name: 'vm.start',
    unit: 'ms',
    runsEach: 5,
    direction: 'at-most',
    kind: 'ratio',
    limit: 1.25,
    prepare: () => prepare(directory),
  };
}

async function prepare(parent: string): Promise<Sides> {
  await using scope = new AsyncDisposableStack();
  const { vhostDeviceVsock: daemon } = artefacts();
  if (daemon === undefined) throw new Error('there is no vhost-device-vsock: run `npm run setup -- demo`');
  const bare = scope.use(await startProgram('line/programs/bare-start.ts'));
  const { operator, place } = await startLine(scope, parent);
  await operator.call('vm.create', { spec: guestSpec(VM) });
  scope.defer(async () => void (await operator.call('vm.delete', { vm: VM, force: true })));

  const ours = async (): Promise<number> => {
    const before = performance.now();
    await operator.call('vm.start', { vm: VM });
    const ms = performance.now() - before;
    await operator.call('vm.stop', { vm: VM, graceMs: 0 });
    return ms;
  };
  // While it runs, a VM tells the very command line that it was started with.
  await operator.call('vm.start', { vm: VM });
  const { binary, argv } = await operator.call('vm.args', { vm: VM });
  await operator.call('vm.stop', { vm: VM, graceMs: 0 });
  const runDir = join(place.directory, 'run', VM);
  const request: BareStart = { binary, argv, daemon, runDir, vhostSocket: vhostSocketOf(argv), logFile: place.logFile };
  const baseline = async (): Promise<number> => {
    bare.send(request);
    // SAFETY: what bare-start.ts answers.
    return ((await bare.next()) as { ms: number }).ms;
  };
  await ours();
  await baseline();
  const all = scope.move();
  return { ours, baseline, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

function vhostSocketOf(argv: readonly string[]): string {
  const prefix = 'socket,id=vsock0-socket,path=';
  const chardev = argv.find((arg) => arg.startsWith(prefix));
  if (chardev === undefined) throw new Error('the VM has no vhost-user vsock device');
  return chardev.slice(prefix.length);
}
