/** What is shipped: the compiled package, laid out as `files` of package.json says, runs without the sources. */
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

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

  it('takes the configuration files that are packaged', async () => {
    const agent = await fairlead('agent', '--config', join(projectDir, 'packaging/systemd/agent.yaml'), '--print-config');
    expect(JSON.parse(agent.stdout)).toMatchObject({ runDir: '/run/fairlead' });
    const hub = await fairlead('hub', '--config', join(projectDir, 'packaging/systemd/hub.yaml'), '--print-config');
    expect(hub.stdout).toContain('dataDir: /var/lib/fairlead-hub');
  });
});
