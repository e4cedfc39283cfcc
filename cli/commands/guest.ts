/** `fairlead guest …`: what a guest's agent can be asked besides `fairlead exec`. */
import { type Command, Option } from 'commander';
import type { Result } from '../../shared/protocol/methods.ts';
import { type App, type Session, withHub } from '../app.ts';
import { durationOption } from '../duration.ts';

interface HostOption {
  readonly host?: string;
}

export function registerGuest(program: Command, app: App): void {
  const guest = program.command('guest').description("what a guest's agent can tell and do");
  const verb = <Options extends HostOption>(
    name: string,
    description: string,
    run: (session: Session, vm: string, options: Options) => Promise<void>,
  ): Command =>
    guest
      .command(`${name} <vm>`)
      .description(description)
      .option('--host <host>', 'the host that the VM is on')
      .action(async (vm: string, options: Options, command: Command) =>
        withHub(app, command, (session) => run(session, vm, options)),
      );

  verb('ping', 'ask for a sign of life', async ({ hub, output }, vm, { host }) => {
    const answer = await hub.call('guest.ping', { vm }, host);
    output.record(answer, [['answered in', `${answer.roundTripMs} ms`]]);
  });
  verb('info', 'what the agent says of itself and its system', async ({ hub, output }, vm, { host }) => {
    const info = await hub.call('guest.info', { vm }, host);
    output.record(info, infoLines(info));
  });
  verb<HostOption & { readonly hold: number }>(
    'freeze',
    'hold the writes to its disks, for a consistent copy of them',
    async ({ hub, output }, vm, { host, hold }) => {
      const answer = await hub.call('guest.fsfreeze', { vm, action: 'freeze', holdMs: hold }, host);
      output.record(answer, freezeLines(answer, 'frozen'));
    },
  ).addOption(durationOption('--hold <duration>', 'thaw by itself after this time', '30s'));
  for (const [name, action, description] of [
    ['thaw', 'thaw', 'let its writes go'],
    ['frozen', 'status', 'whether its writes are held'],
  ] as const) {
    verb(name, description, async ({ hub, output }, vm, { host }) => {
      const answer = await hub.call('guest.fsfreeze', { vm, action }, host);
      output.record(answer, freezeLines(answer));
    });
  }
  verb<HostOption & { readonly time?: string }>(
    'set-time',
    "set its clock, to the host's time",
    async ({ hub, output }, vm, options) => {
      const { time } = options;
      const answer = await hub.call('guest.setTime', { vm, ...(time !== undefined && { time }) }, options.host);
      output.record(answer, [['clock set to', answer.time]]);
    },
  ).option('--time <time>', 'to this time instead, such as 2026-01-31T12:00:00Z');
  verb<HostOption & { readonly mode: 'powerdown' | 'reboot' | 'halt' }>(
    'shutdown',
    'let it shut itself down; `fairlead vm stop` also sees to the end',
    async ({ hub, output }, vm, { host, mode }) => {
      const answer = await hub.call('guest.shutdown', { vm, mode }, host);
      output.record(answer, [['asked', `${mode}; the VM is ${answer.state}`]]);
    },
  ).addOption(new Option('--mode <mode>', 'how').choices(['powerdown', 'reboot', 'halt']).default('powerdown'));
}

function infoLines({ agentVersion, hostname, os, networks = [], commands }: Result<'guest.info'>) {
  return [
    ['hostname', hostname],
    ['system', [os?.name, os?.version, os?.kernel, os?.machine].filter((part) => part !== undefined).join(', ')],
    ...networks.map(({ name, mac, addresses }) => [`network ${name}`, [mac, ...addresses].join(' ')] as const),
    ['agent', `qemu-ga ${agentVersion}, ${commands.length} commands`],
  ] as const;
}

function freezeLines({ status, fileSystems, thawsAt }: Result<'guest.fsfreeze'>, wanted?: 'frozen') {
  return [
    ['file systems', wanted === 'frozen' && status === 'thawed' ? 'none that can be frozen: its writes go on' : status],
    ['changed', fileSystems === 0 ? undefined : fileSystems],
    ['thaws at', thawsAt],
  ] as const;
}
