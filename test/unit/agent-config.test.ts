import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAgentConfig, parseHttpListen, redactConfig } from '../../agent/config.ts';
import { agentUsage, readAgentCommandLine } from '../../agent/config-source.ts';

const least = { hub: 'wss://hub.example', host: 'edge-1', stateDir: '/var/lib/fairlead' };

describe('the agent configuration', () => {
  it('fills in what is not said', () => {
    expect(parseAgentConfig(least)).toMatchObject({
      runDir: '/var/lib/fairlead/run',
      imageRoots: ['/var/lib/fairlead/images'],
      qmpCommands: ['query-*'],
      methods: ['*'],
      pciDevices: [],
      maxBackoff: 60_000,
      vsock: 'auto',
    });
  });

  it('takes times with units and lists with commas', () => {
    const config = parseAgentConfig({
      ...least,
      drainTimeout: '1.5s',
      dialTimeout: 700,
      qmpCommands: 'query-*, stop',
      labels: 'a=1,b=x=y',
    });
    expect(config).toMatchObject({
      drainTimeout: 1500,
      dialTimeout: 700,
      qmpCommands: ['query-*', 'stop'],
      labels: { a: '1', b: 'x=y' },
    });
  });

  it.each([
    [{ ...least, colour: 'red' }, 'config.colour: is not a known field'],
    [{ host: 'edge-1', stateDir: '/x' }, 'config.hub: is required'],
    [{ ...least, hub: 'ftp://x' }, 'config.hub: must be an address such as wss://hub.example'],
    [{ ...least, hub: 'ws://10.0.0.1' }, 'plain ws: to another machine'],
    [{ ...least, host: 'Edge_1' }, 'config.host: must be lower-case letters'],
    [{ ...least, drainTimeout: 'soon' }, 'config.drainTimeout: must be a time such as'],
    [{ ...least, httpListen: '0.0.0.0:7081' }, 'config.httpListen: must be ADDRESS:PORT'],
    [{ ...least, imageRoots: ['images'] }, 'must be an absolute path'],
    [{ ...least, token: 'two words' }, 'config.token: must be printable text'],
  ])('refuses %j with the path of the field', (input, message) => {
    expect(() => parseAgentConfig(input)).toThrow(message);
  });

  it('allows plain ws: on loopback, or when told', () => {
    expect(parseAgentConfig({ ...least, hub: 'ws://127.0.0.1:1' }).hub).toBe('ws://127.0.0.1:1');
    expect(parseAgentConfig({ ...least, hub: 'ws://10.0.0.1', insecure: true }).insecure).toBe(true);
  });

  it('shows no secret', () => {
    expect(JSON.stringify(redactConfig(parseAgentConfig({ ...least, token: 'hush-hush' })))).not.toContain('hush');
  });

  it.each([
    [
      'networks',
      ['user', 'tap:vm*', 'bridge:br0', 'tap:*', '*'],
      ['eth0', 'tap:', 'tap:a b', 'bridge:a/b', 'user:x', 'tap:abcdefghijklmnop'],
    ],
    ['forwardPorts', ['80', '8000-8099', '*'], ['http', '80-', '-1']],
    [
      'migrationTargets',
      ['tcp:10.0.0.*', 'tcp:[fe80::1]:44', 'unix:/run/x', '*'],
      ['exec:*', 'file:/x', 'unix:x', 'tcp:a,b', 'fd:3'],
    ],
    ['accelerators', ['kvm', 'tcg'], ['xen', '*']],
    ['cgroup', ['auto', 'off', '/sys/fs/cgroup/x'], ['yes', 'sys/fs']],
    ['qemuUser', ['qemu', 'libvirt-qemu', '1000'], ['', 'a b', '-1', 'root;id']],
    ['oomScoreAdj', [0, '1000'], [-1, 1001]],
    ['maxMemory', ['8GiB', 1024], ['much', -1]],
  ])('takes for %s what it can mean and nothing else', (key, good, bad) => {
    const isList = ['networks', 'forwardPorts', 'migrationTargets', 'accelerators'].includes(key);
    const parse = (value: unknown) => parseAgentConfig({ ...least, [key]: isList ? [value] : value });
    for (const value of good) expect(() => parse(value), String(value)).not.toThrow();
    for (const value of bad) expect(() => parse(value), String(value)).toThrow(key);
  });

  it('listens on loopback, a unix socket or not at all', () => {
    expect(parseHttpListen('[::1]:80')).toEqual({ host: '::1', port: 80 });
    expect(parseHttpListen('unix:/run/a.sock')).toEqual({ path: '/run/a.sock' });
    expect(parseHttpListen('off')).toBe('off');
    expect(parseHttpListen('127.0.0.1:99999')).toBeUndefined();
  });
});

describe('the sources of the configuration', () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'fl-config-'));
    await writeFile(
      join(directory, 'agent.yaml'),
      'hub: wss://file.example\nhost: from-file\nstateDir: /file\nlabels:\n  zone: a\n',
    );
    await writeFile(join(directory, 'agent.json'), '{"hub": "wss://json.example", "stateDir": "/json"}');
    await writeFile(join(directory, 'list.yaml'), '- a\n');
  });
  afterAll(() => rm(directory, { recursive: true }));

  const read = async (argv: string[], env: Record<string, string> = {}) => {
    const read = readAgentCommandLine(argv, { HOME: '/home/x', ...env });
    if (read === 'help') throw new Error('help');
    return read;
  };

  it('are flags before variables before the file', async () => {
    const file = join(directory, 'agent.yaml');
    const { config } = await read(['--config', file, '--host', 'from-flag'], {
      FAIRLEAD_AGENT_HOST: 'from-variable',
      FAIRLEAD_AGENT_STATE_DIR: '/variable',
      FAIRLEAD_AGENT_RUN_DIR: '',
    });
    expect(config).toMatchObject({ hub: 'wss://file.example', host: 'from-flag', stateDir: '/variable', labels: { zone: 'a' } });
  });

  it('take a relative path of a flag from the working directory', async () => {
    const { config } = await read(['--hub', 'wss://hub.example', '--token-file', 'enrol.token']);
    expect(config.tokenFile).toBe(join(process.cwd(), 'enrol.token'));
  });

  it('may be JSON', async () => {
    const { config } = await read([], { FAIRLEAD_AGENT_CONFIG: join(directory, 'agent.json') });
    expect(config).toMatchObject({ hub: 'wss://json.example', stateDir: '/json' });
  });

  it('take switches and repeated flags', async () => {
    const argv = [
      '--hub',
      'ws://10.0.0.1',
      '--insecure',
      '--image-roots',
      '/a',
      '--image-roots',
      '/b,/c',
      '--labels',
      'x=1',
      '--print-config',
    ];
    const { config, printConfig } = await read(argv);
    expect(config).toMatchObject({ insecure: true, imageRoots: ['/a', '/b', '/c'], labels: { x: '1' } });
    expect(printConfig).toBe(true);
  });

  it('use the directories that the service manager made', async () => {
    const env = { STATE_DIRECTORY: '/var/lib/fl', RUNTIME_DIRECTORY: '/run/fl' };
    expect((await read(['--hub', 'wss://h'], env)).config).toMatchObject({ stateDir: '/var/lib/fl', runDir: '/run/fl' });
  });

  it.each([
    [['--colour', 'red'], 'colour'],
    [['--config', '/nowhere/agent.yaml'], 'could not read configuration /nowhere/agent.yaml'],
  ])('refuse %j', async (argv, message) => {
    await expect(read(argv)).rejects.toThrow(message);
  });

  it('refuse a file that holds no settings', async () => {
    await expect(read(['--config', join(directory, 'list.yaml')])).rejects.toThrow('no mapping');
  });

  it('are listed by --help', async () => {
    expect(readAgentCommandLine(['--help'], {})).toBe('help');
    expect(agentUsage()).toContain('--vhost-device-vsock VALUE');
  });
});
