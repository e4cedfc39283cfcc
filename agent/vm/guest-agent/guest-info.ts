/** What a guest's agent can say of its guest: each part where the agent offers the command for it. */
import type { Result } from '../../../shared/protocol/methods.ts';
import type { CommandLimits } from '../live-vm.ts';
import type { GuestAgentClient } from './client.ts';
import type { GuestCommandName, GuestResult } from './commands.ts';

export type GuestInfo = Result<'guest.info'>;

export async function guestInfo(agent: GuestAgentClient, limits: CommandLimits): Promise<GuestInfo> {
  const { value: about } = await agent.run('guest-info', {}, limits);
  const commands = about.supported_commands.filter(({ enabled }) => enabled).map(({ name }) => name);
  const ask = async <Name extends GuestCommandName>(name: Name): Promise<GuestResult<Name> | undefined> =>
    commands.includes(name) ? (await agent.run(name, {}, limits)).value : undefined;
  const hostname = await ask('guest-get-host-name');
  const system = await ask('guest-get-osinfo');
  const networks = await ask('guest-network-get-interfaces');

  const info: GuestInfo = { agentVersion: about.version, commands: commands.toSorted() };
  if (hostname !== undefined) info.hostname = hostname['host-name'];
  if (system !== undefined) {
    const { id, machine, 'pretty-name': name, 'version-id': version, 'kernel-release': kernel } = system;
    info.os = { id, name, version, kernel, machine };
  }
  if (networks !== undefined) {
    info.networks = networks.map(({ name, 'hardware-address': mac, 'ip-addresses': addresses }) => ({
      name,
      mac,
      addresses: addresses.map(({ 'ip-address': address, prefix }) => `${address}/${prefix}`),
    }));
  }
  return info;
}
