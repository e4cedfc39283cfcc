/**
 * `fairlead listen VM PORT LOCAL`: the other direction of `fairlead forward`. What the guest dials, CID 2 on PORT, is joined to a connection
 * to LOCAL on this machine. Resets and restarts of the VM, of the agent and of the hub do not end it.
 */

import type { Duplex } from 'node:stream';
import type { Command } from 'commander';
import type { GuestConnection } from '../../client/index.ts';
import { toFairleadError } from '../../shared/errors.ts';
import { type App, type Session, withHub } from '../app.ts';
import { durationOption } from '../duration.ts';
import { joinLocal } from '../join-local.ts';
import { connectLocally, type LocalAddress, parseLocalAddress } from '../local-address.ts';
import { parsePort } from '../port.ts';

interface ListenOptions {
  readonly host?: string;
  readonly replace?: true;
  readonly idleTimeout: number;
}

export function registerListen(program: Command, app: App): void {
  program
    .command('listen')
    .description('let what a guest dials lead to this machine, until it is ended')
    .argument('<vm>', 'name of the VM')
    .argument('<port>', 'the port of CID 2 that the guest dials', parsePort)
    .argument('<local>', '[ADDRESS:]PORT or /PATH here', parseLocalAddress)
    .option('--host <host>', 'the host that the VM is on')
    .option('--replace', 'take the port from whoever listens already')
    .addOption(
      durationOption(
        '--idle-timeout <duration>',
        'after a local program has ended its half, how long to wait for a silent guest where the transport cannot half-close',
        '30s',
      ),
    )
    .action(async (vm: string, port: number, local: LocalAddress, options: ListenOptions, command: Command) =>
      withHub(app, command, (session) => listen(app, session, { vm, port, local, options }), { lasting: true }),
    );
}

async function listen(
  app: App,
  { hub, output }: Session,
  about: { readonly vm: string; readonly port: number; readonly local: LocalAddress; readonly options: ListenOptions },
): Promise<void> {
  const { vm, port, local, options } = about;
  const { host, replace, idleTimeout } = options;
  const { signal } = app;
  const onListening = (): void => output.say(`listening to VM ${vm} on port ${port}`);
  for await (const connection of hub.client.listen(vm, port, { host, replace, signal, onListening })) {
    carry(connection).catch((thrown: unknown) => {
      if (!signal.aborted) output.say(`a connection of VM ${vm} to port ${port} ended: ${toFairleadError(thrown).message}`);
    });
  }

  async function carry(connection: GuestConnection<Duplex>): Promise<void> {
    const stream = await connection.accept({ signal });
    stream.on('error', () => {});
    try {
      const socket = await connectLocally(local, signal);
      await joinLocal(socket, stream, { idleMs: connection.halfClose ? undefined : idleTimeout, signal });
    } finally {
      stream.destroy();
    }
  }
}
