/** `fairlead host ls|show|rm`: the hosts that enrolled with the hub; host-upkeep.ts has what can be done to them. */
import type { Command } from 'commander';
import { type App, withHub } from '../app.ts';
import { allHosts } from '../lists.ts';
import { age, humanBytes } from '../output.ts';
import { collectLabels } from '../vm-spec-options.ts';
import { registerHostUpdate } from './host-update.ts';
import { registerHostUpkeep } from './host-upkeep.ts';

export function registerHost(program: Command, app: App): void {
  const host = program.command('host').description('hosts that enrolled with the hub');

  host
    .command('ls')
    .alias('list')
    .description('enrolled hosts: all, or those with the labels')
    .option('--label <key=value>', 'only those that have it (may be repeated)', collectLabels)
    .option('--cordoned', 'only those that take no new VMs')
    .action(async ({ label, cordoned }: { label?: Record<string, string>; cordoned?: boolean }, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const hosts = await allHosts(hub, { ...(label && { labels: label }), ...(cordoned && { cordoned }) });
        const now = Date.now();
        output.list(
          hosts,
          [
            { title: 'HOST', value: (row) => row.host },
            { title: 'LINE', value: (row) => (row.connected ? 'up' : 'down') },
            {
              title: 'TAKES VMS',
              value: (row) => (row.cordoned === undefined ? 'yes' : row.cordoned.drained ? 'drained' : 'no'),
            },
            { title: 'ZONE', value: (row) => row.zone },
            { title: 'SEEN', value: (row) => age(row.lastSeenAt, now) },
            { title: 'RTT', value: (row) => (row.rttMs === undefined ? undefined : `${row.rttMs.toFixed(1)}ms`) },
            { title: 'VERSION', value: (row) => row.agentVersion },
            { title: 'LABELS', value: (row) => labelText(row.labels) },
          ],
          {
            name: (row) => row.host,
            empty:
              label === undefined && cordoned === undefined
                ? 'no host yet: make a token with `fairlead token create enrol` and start an agent with it'
                : 'no host is like that',
          },
        );
      }),
    );

  host
    .command('show <host>')
    .description('one host: its line, and what it is and can do')
    .action(async (name: string, _options: object, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const record = await hub.call('host.get', { host: name });
        const info = record.connected ? await hub.call('host.info', { host: name }) : undefined;
        output.record(
          { ...record, info: info ?? null },
          [
            ['host', record.host],
            ['line', record.connected ? 'up' : 'down'],
            ['enrolled', record.enrolledAt],
            ['last seen', record.lastSeenAt],
            ['labels', labelText(record.labels)],
            ['takes no VMs', record.cordoned && `since ${record.cordoned.at} ${record.cordoned.reason}`.trim()],
            ['agent', info?.agentVersion ?? record.agentVersion],
            ['system', info && `${info.hostname}, Linux ${info.kernel}, ${info.architecture}`],
            ['cpus', info?.cpus],
            ['memory', info && `${humanBytes(info.memoryFreeBytes)} free of ${humanBytes(info.memoryBytes)}`],
            ['qemu', info && (info.qemu.available ? info.qemu.version : `no: ${info.qemu.reason}`)],
            ['kvm', info && (info.kvm.available ? 'yes' : `no: ${info.kvm.reason}`)],
            ['limits', info?.limits && (info.limits.available ? info.limits.detail : `none: ${info.limits.reason}`)],
            ['vsock', info && (info.vsock.available ? (info.vsock.detail ?? 'yes') : `no: ${info.vsock.reason}`)],
          ],
          record.host,
        );
      }),
    );

  registerHostUpkeep(host, app);
  registerHostUpdate(host, app);

  host
    .command('rm <host>')
    .description('forget a host and its key; its VMs keep running')
    .action(async (name: string, _options: object, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        await hub.call('host.remove', { host: name });
        output.say(`host ${name} is forgotten: to come back it must enrol again`);
      }),
    );
}

function labelText(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(',');
}
