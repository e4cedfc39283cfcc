/** The agent changed for another release of itself: real launchers and agents as processes, on a real hub; what is killed is killed for good. */
import { execFile } from 'node:child_process';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { identityOf, isAlive, processExit } from '../../agent/process-identity.ts';
import { generateHostKey } from '../../shared/node/host-key.ts';
import { releaseSignatureBytes } from '../../shared/protocol/release.ts';
import { LaunchedHost } from '../support/launched-host.ts';
import { becomes, startPlayedFleet } from '../support/played-fleet.ts';

const TIMEOUT_MS = 120_000;

describe('a host that is updated', { timeout: TIMEOUT_MS }, () => {
  let host: LaunchedHost;
  let good: string;
  beforeAll(async () => {
    host = await LaunchedHost.open();
    await host.launch();
    await host.connected();
    good = await host.push({ version: '2.0.0' });
  }, TIMEOUT_MS);
  afterAll(() => host[Symbol.asyncDispose]());

  it('runs the release that is installed at first, and says that it can be changed', async () => {
    expect(await host.release()).toMatchObject({ release: 'installed', updatable: true, onTrial: false });
  });

  it('fetches a release, tries it, and keeps it once it is healthy', async () => {
    const before = await host.agentPid();
    expect(await host.update({ release: good })).toEqual({ release: good, version: '2.0.0', previous: 'installed' });
    expect(await host.agentPid()).not.toBe(before);
    expect(await host.release()).toMatchObject({ release: good, previous: 'installed', onTrial: false });
  });

  it('has nothing to do for the release that runs', async () => {
    const before = await host.agentPid();
    expect(await host.update({ release: good })).toMatchObject({ release: good });
    expect(await host.agentPid()).toBe(before);
  });

  it('knows a release by a tag of the hub', async () => {
    await host.operator.call('image.tag', { image: good, tag: 'agent:2' });
    expect(await host.update({ release: 'agent:2' })).toMatchObject({ release: good });
  });

  it('is told of and changed at the command line', async () => {
    expect(await host.cli('host', 'release', 'edge-1')).toMatch(new RegExp(`release +${good}\n[^]*before +installed\n[^]*kept`));
    expect(await host.cli('host', 'update', 'edge-1', 'agent:2')).toMatch(new RegExp(`release +${good}\nversion +2\\.0\\.0`));
  });

  it('falls back from one that crashes at once', async () => {
    const bad = await host.push({ version: '2.0.1', entry: 'crashing' });
    await expect(host.update({ release: bad })).rejects.toMatchObject({
      code: 'UPDATE_FAILED',
      message: expect.stringMatching(/ended with code 7 before it was healthy.*sha256:[0-9a-f]+ \(2\.0\.0\) runs/),
    });
    expect(await host.release()).toMatchObject({ release: good, lastUpdate: { release: bad } });
  });

  it('falls back from one that hangs', async () => {
    const bad = await host.push({ version: '2.0.2', entry: 'hanging' });
    const update = host.update({ release: bad, healthTimeoutMs: 1000 });
    await expect(update).rejects.toMatchObject({ code: 'UPDATE_FAILED', message: expect.stringContaining('within 1000 ms') });
  });

  it('falls back from one that does not reach the hub, and tells why', async () => {
    const bad = await host.push({ version: '2.0.3', entry: 'lost' });
    await expect(host.update({ release: bad, healthTimeoutMs: 8000 })).rejects.toMatchObject({
      code: 'UPDATE_FAILED',
      message: expect.stringMatching(/within 8000 ms: link: .*127\.0\.0\.1:9/),
    });
    expect(await host.release()).toMatchObject({ release: good });
  });

  it.each([
    ['for another machine', { architecture: 's390x' }, 'UNSUPPORTED', /s390x/],
    ['for a newer Node', { node: '99.0.0' }, 'UNSUPPORTED', /Node 99/],
    ['that cannot read the state', { stateForm: { oldestRead: 5, newestRead: 6, written: 6 } }, 'UNSUPPORTED', /forms 5 to 6/],
    [
      'that there would be no way back from',
      { stateForm: { oldestRead: 1, newestRead: 2, written: 2 } },
      'UNSUPPORTED',
      /come back/,
    ],
    ['of something else', { kind: 'other' as never }, 'PROTOCOL_ERROR', /no release/],
  ])('refuses a release %s while it still runs the one it has', async (_, manifest, code, message) => {
    const pid = await host.agentPid();
    const release = await host.push({ version: '3.0.0', manifest });
    await expect(host.update({ release })).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    expect(await host.agentPid()).toBe(pid);
    expect((await host.record()).update).toBeUndefined();
  });

  it('refuses what is no archive, and what the hub does not have', async () => {
    const release = await host.push(Buffer.from('not an archive'));
    await expect(host.update({ release })).rejects.toMatchObject({ code: 'PROTOCOL_ERROR' });
    const missing = `sha256:${'0'.repeat(64)}`;
    await expect(host.update({ release: missing })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(await readdir(join(host.directory, 'releases'))).not.toContain('unpacking');
  });

  it('is changed by a rollout, which takes it back to what it ran before', async () => {
    const release = await host.push({ version: '2.1.0' });
    const spec = {
      selector: {},
      steps: [{ kind: 'agent' as const, release }],
      budget: { maxUnavailable: '100%', perZone: '100%' },
    };
    const statusOf = async () => (await host.operator.call('rollout.get', { rollout: 'agents' })).status;
    await host.operator.call('rollout.start', { rollout: 'agents', spec });
    await expect.poll(statusOf, { timeout: TIMEOUT_MS }).toBe('completed');
    expect(await host.release()).toMatchObject({ release, previous: good });
    await host.operator.call('rollout.rollback', { rollout: 'agents', reason: 'a test' });
    await expect.poll(statusOf, { timeout: TIMEOUT_MS }).toBe('rolled-back');
    expect(await host.release()).toMatchObject({ release: good, previous: release });
  });

  it('goes back to the release that is installed without fetching anything', async () => {
    expect(await host.update({ release: 'installed' })).toMatchObject({ release: 'installed', previous: good });
  });
});

describe.concurrent('an update that something ends in the middle', { timeout: TIMEOUT_MS }, () => {
  it.each([
    ['the old agent, before it has asked to leave', 'update.unpacked', 'agent', 'kept'],
    ['the old agent, once the other release is to be tried', 'update.staged', 'agent', 'kept'],
    ['the host, once the other release is to be tried', 'update.staged', 'host', 'kept'],
    ['the new agent on trial', 'update.healthy', 'agent', 'left'],
    ['the host, in the middle of the trial', 'update.healthy', 'host', 'left'],
    ['the host, before anybody was told that the new one stays', 'update.kept', 'host', 'kept'],
  ] as const)('ends as one: %s', async (_, failpoint, victim, outcome) => {
    await using host = await LaunchedHost.open();
    const launched = await host.launch(failpoint);
    await host.connected();
    const release = await host.push({ version: '2.0.0' });
    const update = host.update({ release });
    update.catch(() => {});
    await launched.atFailpoint;
    const agentPid = await host.agentPid();
    if (victim === 'host') await launched.end('SIGKILL');
    process.kill(agentPid, 'SIGKILL');
    // A launcher goes on by itself; one that is gone is begun anew, as a service manager would.
    if (victim === 'host') await host.launch();
    const told = await update.then(
      ({ release: kept }) => kept,
      ({ code }) => code,
    );
    expect(told).toBe(outcome === 'kept' ? release : 'UPDATE_FAILED');
    expect(await host.release()).toMatchObject({ release: outcome === 'kept' ? release : 'installed', onTrial: false });
    expect((await host.record()).outcomes).toHaveLength(1);
  });
});

describe.concurrent('a launcher', { timeout: TIMEOUT_MS }, () => {
  it('starts an agent again that was killed, and leaves none behind when it is killed itself', async ({ expect }) => {
    await using host = await LaunchedHost.open();
    const launched = await host.launch();
    await host.connected();
    const first = await host.agentPid();
    process.kill(first, 'SIGKILL');
    await expect.poll(() => host.agentPid(), { timeout: TIMEOUT_MS }).not.toBe(first);
    await expect
      .poll(() => host.release().catch(() => undefined), { timeout: TIMEOUT_MS })
      .toMatchObject({ release: 'installed' });
    const second = await host.agentPid();
    await launched.end('SIGKILL');
    await processExit(identityOf(second) ?? { pid: second, startTime: '' });
  });

  it('leaves a release that was kept, and crashes over and over before it is connected, for the one before it', {
    timeout: 2 * TIMEOUT_MS,
  }, async ({ expect }) => {
    await using host = await LaunchedHost.open();
    const launched = await host.launch();
    await host.connected();
    const release = await host.push({ version: '2.0.0', entry: 'fragile' });
    expect(await host.update({ release })).toMatchObject({ release, previous: 'installed' });
    await writeFile(join(host.directory, 'state/trap'), '');
    process.kill(await host.agentPid(), 'SIGKILL');
    const runs = () => host.release().catch(() => undefined);
    await expect.poll(runs, { timeout: TIMEOUT_MS, interval: 500 }).toMatchObject({
      release: 'installed',
      fallback: { release, failure: 'it ended with code 9' },
    });
    expect(await host.release()).not.toHaveProperty('crashes');
    // Each of its crashes was told, and waited longer for.
    const waits = launched.log.flatMap(({ waitMs }) => waitMs ?? []);
    expect(waits.slice(0, 4)).toEqual([1000, 2000, 4000, 8000]);
    expect(await host.cli('host', 'release', 'edge-1')).toMatch(
      new RegExp(`fell back +.* from ${release}: it ended with code 9`),
    );
    // It can be given again.
    await rm(join(host.directory, 'state/trap'));
    expect(await host.update({ release })).toMatchObject({ release, previous: 'installed' });
    expect(await host.release()).not.toHaveProperty('fallback');
  });

  it('ends with its agent, in order, when it is told to', async () => {
    await using host = await LaunchedHost.open();
    const launched = await host.launch();
    await host.connected();
    const agent = identityOf(await host.agentPid());
    expect(await launched.end('SIGTERM')).toBe(0);
    expect(agent !== undefined && isAlive(agent)).toBe(false);
  });

  it('is alone with its releases', async () => {
    await using host = await LaunchedHost.open();
    await host.launch();
    await host.connected();
    const args = [
      fileURLToPath(new URL('../../bin/fairlead.ts', import.meta.url)),
      'launch',
      '--releases',
      join(host.directory, 'releases'),
    ];
    await expect(promisify(execFile)(process.execPath, args)).rejects.toMatchObject({
      code: 1,
      stdout: expect.stringContaining('another launcher runs'),
    });
  });
});

describe('a host whose agent nobody could start again', { timeout: TIMEOUT_MS }, () => {
  it('is refused by a rollout before anything is done to it', async () => {
    await using fleet = await startPlayedFleet(['a1']);
    const spec = { selector: {}, steps: [{ kind: 'agent', release: `sha256:${'0'.repeat(64)}` }] };
    await fleet.call('rollout.start', { rollout: 'r1', spec });
    await becomes(fleet, 'r1', 'paused');
    const { hosts } = await fleet.call('rollout.hosts', { rollout: 'r1', phase: 'failed' });
    expect(hosts).toMatchObject([
      { touched: false, failure: { class: 'rejected', error: expect.stringContaining('fairlead launch') } },
    ]);
    const { operations } = await fleet.call('op.list', { host: 'a1' });
    expect(operations).toEqual([]);
    await expect(fleet.call('agent.update', { host: 'a1', release: 'installed' })).rejects.toThrow(
      /UNSUPPORTED.*fairlead launch/,
    );
  });
});

describe('a host that wants releases signed', { timeout: TIMEOUT_MS }, () => {
  it('takes what one of its keys has signed, and nothing else', async () => {
    const [mine, other] = [generateHostKey(), generateHostKey()];
    await using host = await LaunchedHost.open(['--release-keys', mine.publicKey]);
    await host.launch();
    await host.connected();
    const release = await host.push({ version: '2.0.0' });
    const signed = (key: typeof mine) => host.update({ release, signature: key.sign(releaseSignatureBytes(release)) });
    await expect(host.update({ release })).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
    await expect(signed(other)).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
    expect(await signed(mine)).toMatchObject({ release });
  });
});
