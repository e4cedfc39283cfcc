/** A simulated fleet on a real hub: `fairlead sim` as a program, with its processes, and a hub that is killed meanwhile. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { SimFleet } from '../../agent/sim/crew.ts';
import { SimScript } from '../../agent/sim/script.ts';
import { connectHub } from '../../cli/connection.ts';
import { warnOfFewFiles } from '../../hub/open-files.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import { ownPort } from '../support/own-port.ts';
import { startTestHub } from '../support/test-hub.ts';

const ENTRY = fileURLToPath(new URL('../../bin/fairlead.ts', import.meta.url));
const TIMEOUT_MS = 120_000;
const HOSTS = 200;
/** A fleet on one address, and no waiting for whoever comes again. */
const HUB = { addressHandshakesPerSecond: 10_000, addressHandshakeBurst: 10_000 } as const;

async function fleetOn(
  scope: AsyncDisposableStack,
  hub: string,
  token: string,
  script: object = {},
  hosts = HOSTS,
): Promise<SimFleet> {
  const directory = await mkdtemp(join(tmpdir(), 'fairlead-sim-'));
  scope.defer(() => rm(directory, { recursive: true, force: true }));
  return scope.use(
    await SimFleet.start({
      hosts,
      processes: 2,
      prefix: 'sim',
      access: { hub: hub.replace('http', 'ws'), token, insecure: false, maxBackoff: '1s' },
      script: parseWith(SimScript, script, 'script'),
      directory,
      entry: ENTRY,
    }),
  );
}

describe('a simulated fleet', { timeout: TIMEOUT_MS }, () => {
  it('comes whole, does what it is told, and is back after a hub that went and came again', async () => {
    await using scope = new AsyncDisposableStack();
    const dataDir = await mkdtemp(join(tmpdir(), 'fairlead-hub-'));
    scope.defer(() => rm(dataDir, { recursive: true, force: true }));
    const listen = `127.0.0.1:${await ownPort()}`;
    const first = await startTestHub({ dataDir, listen, ...HUB });
    const gone = scope.use(new AsyncDisposableStack());
    gone.use(first);
    const fleet = await fleetOn(scope, first.url, await first.hub.bootstrap.enrolToken({ maxUses: HOSTS }));
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    await fleet.until(({ up }) => up === HOSTS, signal);
    {
      await using operator = await connectHub({ hub: first.url, token: first.adminToken }, { timeoutMs: TIMEOUT_MS });
      const hosts = ['sim-00001', 'sim-00100', 'sim-00200'];
      const vms = await Promise.all(hosts.map((host) => operator.call('vm.suspend', { vm: 'vm-1' }, host)));
      expect(vms.map(({ vm }) => vm.state)).toEqual(['suspended', 'suspended', 'suspended']);
      const { labels } = await operator.call('host.get', { host: 'sim-00002' });
      expect(labels['zone']).toBe('zone-b');
    }
    await gone.disposeAsync();
    await fleet.until(({ up }) => up === 0, signal);
    const second = scope.use(await startTestHub({ dataDir, listen, ...HUB }));
    await fleet.until(({ up }) => up === HOSTS, signal);
    const answer = await second.post('vm.get', { vm: 'vm-1', host: 'sim-00100' });
    // The VMs have gone on without a hub.
    expect(answer.body.result).toMatchObject({ state: 'suspended' });
  });

  it('loses a zone for as long as its script says', async () => {
    await using scope = new AsyncDisposableStack();
    const hub = scope.use(await startTestHub(HUB));
    const script = { zones: ['a', 'b'], faults: [{ kind: 'offline', hosts: { zone: 'b' }, from: '5s', for: '5s' }] };
    const fleet = await fleetOn(scope, hub.url, await hub.hub.bootstrap.enrolToken({ maxUses: 10 }), script, 10);
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    expect(await fleet.until(({ up, lastError }) => up === 5 && lastError !== undefined, signal)).toMatchObject({ up: 5 });
    expect(await fleet.until(({ up }) => up === 10, signal)).toMatchObject({ up: 10 });
  });

  it('is told by one command, says how it is, and leaves nothing behind', async () => {
    await using scope = new AsyncDisposableStack();
    const hub = scope.use(await startTestHub(HUB));
    const directory = await mkdtemp(join(tmpdir(), 'fairlead-sim-'));
    scope.defer(() => rm(directory, { recursive: true, force: true }));
    const tokenFile = join(directory, 'token');
    await writeFile(tokenFile, await hub.hub.bootstrap.enrolToken({ maxUses: 5 }));
    const args = ['--hosts', '5', '--processes', '1', '--hub', hub.url.replace('http', 'ws'), '--token-file', tokenFile];
    const sim = start(['sim', ...args], { TMPDIR: directory });
    scope.defer(async () => void sim.kill('SIGKILL'));
    await said(sim, '5 of 5 hosts are connected');
    sim.kill('SIGTERM');
    expect(await once(sim, 'exit')).toEqual([0, null]);
    expect((await readdir(directory)).filter((name) => name.startsWith('fairlead-sim'))).toEqual([]);
  });

  it.each([
    [['--hosts', '0', '--hub', 'ws://127.0.0.1:1'], /--hosts must be a whole number/],
    [['--hosts', '5'], /no hub is known/],
    [['--hosts', '5', '--hub', 'ws://127.0.0.1:1', '--script', '/none'], /could not read the script/],
    [['--hosts', '100000', '--processes', '1', '--hub', 'ws://127.0.0.1:1'], /need some 300064 open files.*raise the limit/],
  ])('refuses %j', async (args, message) => {
    const sim = start(['sim', ...args], {});
    const text = said(sim, 'fairlead sim:', 'stderr');
    const [code] = await once(sim, 'exit');
    expect(code).not.toBe(0);
    expect(await text).toMatch(message);
  });
});

describe('a hub', () => {
  it('says at its start that it may not open as many files as hosts are to connect', () => {
    const warnings: string[] = [];
    const logger = {
      debug() {},
      info() {},
      error() {},
      warn: (_: object, text: string) => void warnings.push(text),
      child: () => logger,
    };
    const capacity = { maxHosts: 10_000, maxOperators: 100, maxUnauthenticated: 100 };
    warnOfFewFiles(capacity, logger, 1_000_000);
    expect(warnings).toEqual([]);
    warnOfFewFiles(capacity, logger, 1024);
    expect(warnings[0]).toMatch(/may have 1024 files open.*568 hosts.*LimitNOFILE/);
  });
});

function start(args: readonly string[], env: Record<string, string>): ChildProcess {
  return spawn(process.execPath, [ENTRY, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
}

/** All that was said once the text is in it. */
async function said(child: ChildProcess, text: string, stream: 'stdout' | 'stderr' = 'stdout'): Promise<string> {
  let all = '';
  for await (const chunk of child[stream] ?? []) {
    all += String(chunk);
    if (all.includes(text) && all.endsWith('\n')) return all;
  }
  throw new Error(`it ended and said no '${text}', but: ${all}`);
}
