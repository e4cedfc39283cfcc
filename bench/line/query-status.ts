/** One call after another from operator to QEMU and back, against a bare relay in front of the same QEMU's second monitor. */
import { join } from 'node:path';
import type { WebSocket } from 'ws';
import { type Measurement, median, type Sides } from '../measure.ts';
import { guestSpec, startLine } from './fixture.ts';
import { openRelay } from './relay.ts';

const VM = 'status';
const CALLS = 2_000;
/** As many as it takes for compiled code on both sides: agents and hubs run for months. */
const WARM_UP_CALLS = 10_000;

export function queryStatus(directory: string): Measurement {
  return {
    name: 'query-status p50',
    unit: 'ms',
    direction: 'at-most',
    kind: 'ratio',
    limit: 1.5,
    prepare: () => prepare(directory),
  };
}

async function prepare(parent: string): Promise<Sides> {
  await using scope = new AsyncDisposableStack();
  const { operator, place } = await startLine(scope, parent);
  await operator.call('vm.create', { spec: guestSpec(VM) });
  scope.defer(async () => void (await operator.call('vm.delete', { vm: VM, force: true })));
  await operator.call('vm.start', { vm: VM });
  // A guest that computes would take the processors from both sides.
  await operator.call('vm.pause', { vm: VM });
  const monitor = join(place.directory, 'run', VM, 'monitor.sock');
  const relay = await openRelay(scope, monitor, { lines: true });
  const ask = asker(relay);
  // As the agent's session has it: QEMU then reads commands in a thread of its own, which costs each a change of threads.
  await ask('qmp_capabilities', { enable: ['oob'] });

  const sides = {
    ours: () => operator.call('vm.qmp', { vm: VM, execute: 'query-status' }),
    baseline: () => ask('query-status'),
  };
  await timed(WARM_UP_CALLS, sides.ours);
  await timed(WARM_UP_CALLS, sides.baseline);
  const all = scope.move();
  return {
    ours: () => timed(CALLS, sides.ours),
    baseline: () => timed(CALLS, sides.baseline),
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

/** Median of the durations in milliseconds. */
async function timed(calls: number, call: () => Promise<unknown>): Promise<number> {
  const durations: number[] = [];
  for (let done = 0; done < calls; done++) {
    const before = performance.now();
    await call();
    durations.push(performance.now() - before);
  }
  return median(durations);
}

/** QMP by hand, one command at a time. */
function asker(relay: WebSocket): (execute: string, args?: object) => Promise<unknown> {
  let waiting: PromiseWithResolvers<unknown> | undefined;
  relay.on('message', (data: Buffer) => {
    const answer: unknown = JSON.parse(data.toString());
    if (typeof answer === 'object' && answer !== null && 'return' in answer) waiting?.resolve(answer.return);
  });
  relay.on('close', () => waiting?.reject(new Error('the bare relay closed')));
  return (execute, args) => {
    waiting = Promise.withResolvers();
    // The very bytes that the agent writes: QEMU reads its monitor byte by byte, and each costs microseconds.
    relay.send(`${JSON.stringify({ execute, arguments: args, id: 1 })}\n`);
    return waiting.promise;
  };
}
