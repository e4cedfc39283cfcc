/**
 * A second QEMU with the machine of a VM that runs, waiting to be migrated to: what an operator, or another agent, would have started. It
 * lets the guest go on by itself when it has arrived, if it ran before.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { QmpClient } from '../../agent/qmp/client.ts';
import type { Vms } from '../../agent/vm/api.ts';
import { withListeningSocket } from './listening-socket.ts';

export interface MigrationTarget extends AsyncDisposable {
  readonly uri: string;
  /** Its run state, once it has got as far as one of these. */
  reached(...states: string[]): Promise<string>;
  signal(signal: NodeJS.Signals): void;
}

export async function startTarget(vms: Vms, vm: string): Promise<MigrationTarget> {
  await using undo = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), 'fl-target-'));
  undo.defer(() => rm(directory, { recursive: true, force: true }));
  const path = (name: string): string => join(directory, name);
  // QEMU makes its character devices in order: when the last has connected here, the monitor before it is there.
  const ready = createServer((socket) => socket.on('error', () => {}).resume()).listen(path('ready'));
  undo.defer(() => void ready.close());
  await once(ready, 'listening');

  const { binary, argv } = await vms.args({ vm });
  const monitor = ['-chardev', 'socket,id=qmp,fd=3,server=on,wait=off', '-mon', 'chardev=qmp,mode=control'];
  const rest = ['-chardev', 'null,id=console', '-incoming', 'defer', '-chardev', `socket,id=ready,path=${path('ready')}`];
  const child = await withListeningSocket(path('qmp'), (fd) =>
    spawn(binary, [...machineOf(argv), ...monitor, ...rest], { stdio: ['ignore', 'ignore', 'pipe', fd] }),
  );
  undo.defer(() => end(child));
  const complaints = child.stderr === null ? '' : text(child.stderr);
  const failed = once(child, 'exit').then(async () => {
    throw new Error(`the target ended before it was ready: ${await complaints}`);
  });
  failed.catch(() => {});
  await Promise.race([once(ready, 'connection'), failed]);

  const qmp = undo.use(await QmpClient.connect({ path: path('qmp') }));
  await qmp.execute('migrate-set-capabilities', { capabilities: [{ capability: 'events', state: true }] });
  const uri = `unix:${path('in')}`;
  await qmp.execute('migrate-incoming', { uri });
  const owned = undo.move();
  return {
    uri,
    async reached(...states) {
      using events = qmp.listen();
      for (;;) {
        // SAFETY: query-status answers so in every version.
        const { status } = (await qmp.execute('query-status')) as { status: string };
        if (states.includes(status)) return status;
        await events.take({ timeoutMs: 60_000 });
      }
    },
    signal: (signal) => void child.kill(signal),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** The command line without what belongs to the process there: its monitors and its console. */
function machineOf(argv: readonly string[]): string[] {
  const kept: string[] = [];
  for (let at = 0; at < argv.length; at++) {
    const [option = '', value = ''] = argv.slice(at, at + 2);
    const isOfTheProcess =
      option === '-mon' || (option === '-chardev' && /^(socket|stdio|pipe),id=(qmp|monitor|trail|console)\b/.test(value));
    if (isOfTheProcess) at++;
    else if (option !== '-S') kept.push(option);
  }
  return kept;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}
