/** What is shipped: the compiled package, laid out as `files` of package.json says, runs without the sources. */
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { releaseDirectory } from '../../agent/launcher/record.ts';
import { Releases } from '../../agent/update/releases.ts';
import { verifySignature } from '../../shared/node/host-key.ts';
import { RELEASE_ENTRY, releaseSignatureBytes, STATE_FORM } from '../../shared/protocol/release.ts';

const run = promisify(execFile);
const projectDir = fileURLToPath(new URL('../..', import.meta.url));

describe('the compiled package', () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'fairlead-dist-'));
    await run(join(projectDir, 'node_modules/.bin/tsc'), [
      '-p',
      join(projectDir, 'tsconfig.build.json'),
      '--outDir',
      join(directory, 'dist'),
    ]);
    await mkdir(join(directory, 'bin'));
    await cp(join(projectDir, 'bin/fairlead.js'), join(directory, 'bin/fairlead.js'));
    await cp(join(projectDir, 'package.json'), join(directory, 'package.json'));
    await symlink(join(projectDir, 'node_modules'), join(directory, 'node_modules'));
  });
  afterAll(() => rm(directory, { recursive: true, force: true }));

  const fairlead = (...args: string[]): Promise<{ stdout: string; stderr: string }> =>
    run(process.execPath, [join(directory, 'bin/fairlead.js'), ...args], { cwd: directory });

  it('says its version', async () => {
    const { version } = JSON.parse(await readFile(join(projectDir, 'package.json'), 'utf8')) as { version: string };
    expect(await fairlead('--version')).toEqual({ stdout: `${version}\n`, stderr: '' });
  });

  it.each(['agent', 'hub', 'up', 'down', 'vm', 'connect'])('%s tells its use', async (verb) => {
    expect((await fairlead(verb, '--help')).stdout).toMatch(/usage/i);
  });

  it('prints the configuration of agent and hub', async () => {
    const agent = await fairlead('agent', '--hub', 'wss://hub.example', '--state-dir', '/var/lib/fairlead', '--print-config');
    expect(JSON.parse(agent.stdout)).toMatchObject({ hub: 'wss://hub.example', stateDir: '/var/lib/fairlead' });
    expect((await fairlead('hub', '--data-dir', '/var/lib/fairlead-hub', '--print-config')).stdout).toContain(
      'listen: 127.0.0.1:7080',
    );
  });

  it('can be packed as a release of the agent, always with the same bytes, that runs where it is unpacked', async () => {
    const [first, second] = [join(directory, 'first.tar.gz'), join(directory, 'second.tar.gz')];
    await fairlead('release', 'pack', first);
    await fairlead('release', 'pack', second);
    expect((await readFile(second)).equals(await readFile(first))).toBe(true);
    const releases = join(directory, 'releases');
    await mkdir(releases);
    const release = `sha256:${'0'.repeat(64)}`;
    const { signal } = new AbortController();
    const manifest = await new Releases(releases).unpack(release, first, signal);
    expect(manifest).toMatchObject({
      kind: 'fairlead-agent',
      platform: 'linux',
      architecture: process.arch,
      stateForm: STATE_FORM,
    });
    const { stdout } = await run(process.execPath, [join(releaseDirectory(releases, release), RELEASE_ENTRY), 'agent', '--help']);
    expect(stdout).toMatch(/usage: fairlead agent/);
    const signed = JSON.parse(
      (await fairlead('release', 'sign', first, '--key', join(directory, 'key'), '--output', 'json')).stdout,
    );
    const bytes = releaseSignatureBytes(signed.digest);
    expect(verifySignature(signed.publicKey, bytes, signed.signature)).toBe(true);
    expect(verifySignature(signed.publicKey, releaseSignatureBytes(release), signed.signature)).toBe(false);
  });

  it('takes the configuration files that are packaged', async () => {
    const agent = await fairlead('agent', '--config', join(projectDir, 'packaging/systemd/agent.yaml'), '--print-config');
    expect(JSON.parse(agent.stdout)).toMatchObject({ runDir: '/run/fairlead' });
    const hub = await fairlead('hub', '--config', join(projectDir, 'packaging/systemd/hub.yaml'), '--print-config');
    expect(hub.stdout).toContain('dataDir: /var/lib/fairlead-hub');
  });
});
