/** The unit files and the Dockerfile, checked as far as a machine without a service manager or a container engine can. */
import { execFile } from 'node:child_process';
import { access, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const run = promisify(execFile);
const projectDir = fileURLToPath(new URL('../..', import.meta.url));
const read = (path: string): Promise<string> => readFile(join(projectDir, path), 'utf8');
const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

const hasSystemd = await exists('/usr/bin/systemd-analyze');
if (!hasSystemd) console.log('skipped: systemd-analyze is not installed');

describe('systemd units', () => {
  for (const unit of ['fairlead-agent.service', 'fairlead-hub.service']) {
    it.skipIf(!hasSystemd)(`${unit} passes systemd-analyze verify without a word`, async () => {
      const directory = await mkdtemp(join(tmpdir(), 'fairlead-unit-'));
      try {
        // verify wants the program to exist; any executable stands in for the installed one.
        const text = (await read(`packaging/systemd/${unit}`)).replace('/usr/bin/fairlead', '/bin/true');
        await writeFile(join(directory, unit), text);
        const { stdout, stderr } = await run('systemd-analyze', ['verify', '--man=no', join(directory, unit)]);
        expect(relevant(stdout + stderr, unit)).toEqual([]);
      } finally {
        await rm(directory, { recursive: true, force: true });
      }
    });
  }

  it('the limits of VMs come with a place of its own for the agent, which needs a newer systemd than the unit', async () => {
    const limits = await read('packaging/systemd/fairlead-agent.service.d/limits.conf');
    expect(limits).toMatch(/^DelegateSubgroup=agent$/m);
    expect(limits).toMatch(/^Delegate=cpu memory pids$/m);
    expect(await read('packaging/systemd/fairlead-agent.service')).not.toContain('DelegateSubgroup');
  });

  it('the launcher of agents is started with the flags of the unit, and its child may speak to systemd', async () => {
    const [unit, updates] = await Promise.all([
      read('packaging/systemd/fairlead-agent.service'),
      read('packaging/systemd/fairlead-agent.service.d/updates.conf'),
    ]);
    const flags = /^ExecStart=\S+ agent (.*)$/m.exec(unit)?.[1];
    expect(updates).toMatch(/^ExecStart=$/m);
    expect(updates).toMatch(new RegExp(`^ExecStart=\\S+ launch --releases /var/lib/fairlead/releases ${flags}$`, 'm'));
    expect(updates).toMatch(/^NotifyAccess=all$/m);
  });

  it('verify does complain when a unit is wrong', async ({ skip }) => {
    if (!hasSystemd) skip('systemd-analyze is not installed');
    const directory = await mkdtemp(join(tmpdir(), 'fairlead-unit-'));
    try {
      const path = join(directory, 'wrong.service');
      await writeFile(path, '[Service]\nType=notfy\nExecStart=/bin/true\nNoSuchSetting=1\n');
      const outcome = await run('systemd-analyze', ['verify', '--man=no', path]).then(
        ({ stdout, stderr }) => stdout + stderr,
        (error: { stderr: string }) => error.stderr,
      );
      expect(relevant(outcome, 'wrong.service')).not.toEqual([]);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });

  it('the agent unit tells the manager of its state and leaves its VMs alone when it ends', async () => {
    const unit = await read('packaging/systemd/fairlead-agent.service');
    for (const line of [
      'Type=notify',
      'KillMode=process',
      'Delegate=yes',
      'RuntimeDirectoryPreserve=yes',
      'DeviceAllow=/dev/vhost-vsock rw',
    ]) {
      expect(unit.split('\n')).toContain(line);
    }
    expect(unit).toMatch(/^WatchdogSec=\d+$/m);
    expect(unit, 'a just-in-time compiler runs here').not.toMatch(/^MemoryDenyWriteExecute=yes$/m);
  });
});

describe('Dockerfile', async () => {
  const instructions = parseDockerfile(await read('Dockerfile'));
  const named = (name: string): string[] => instructions.filter((line) => line.name === name).map((line) => line.rest);

  it('has one build stage and an image each for hub and agent, the agent last so that it is the default', () => {
    const stages = named('FROM').map((rest) => / AS (\w+)$/i.exec(rest)?.[1]);
    expect(stages).toEqual(['build', 'base', 'hub', 'agent']);
  });

  it('runs only npm scripts that exist', async () => {
    const { scripts } = JSON.parse(await read('package.json')) as { scripts: Record<string, string> };
    const used = [
      ...named('RUN')
        .join('\n')
        .matchAll(/npm run ([\w:]+)/g),
    ].map((match) => match[1]);
    expect(used.length).toBeGreaterThan(0);
    for (const script of used) expect(Object.keys(scripts)).toContain(script);
  });

  it('copies from the tree only what is there', async () => {
    const fromTree = named('COPY').filter((rest) => !rest.startsWith('--from'));
    const sources = fromTree.flatMap((rest) => rest.split(/\s+/).slice(0, -1));
    for (const source of sources) expect(await exists(join(projectDir, source)), source).toBe(true);
  });

  it('puts QEMU into the agent image alone, and runs the hub as an unprivileged user', () => {
    const hub = stage(instructions, 'hub');
    const agent = stage(instructions, 'agent');
    expect(JSON.stringify(hub)).not.toContain('qemu');
    expect(JSON.stringify(agent)).toContain('qemu-system-x86');
    expect(hub.some((line) => line.name === 'USER' && line.rest === 'node')).toBe(true);
  });

  it('stops on SIGTERM, says how to check health and holds no secret', async () => {
    expect(named('STOPSIGNAL')).toEqual(['SIGTERM']);
    expect(named('HEALTHCHECK')).toHaveLength(2);
    expect(await read('Dockerfile')).not.toMatch(/(TOKEN|PASSWORD|SECRET)=/i);
    for (const ignored of ['.git', 'node_modules', '.cache'])
      expect((await read('.dockerignore')).split('\n')).toContain(ignored);
  });
});

interface Instruction {
  readonly name: string;
  readonly rest: string;
}

function parseDockerfile(text: string): Instruction[] {
  const joined = text.replaceAll(/^\s*#.*\n/gm, '').replaceAll(/\\\n\s*/g, ' ');
  return joined
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const [name = '', ...rest] = line.trim().split(/\s+/);
      return { name: name.toUpperCase(), rest: rest.join(' ') };
    });
}

function stage(instructions: readonly Instruction[], name: string): Instruction[] {
  const start = instructions.findIndex((line) => line.name === 'FROM' && line.rest.endsWith(` AS ${name}`));
  const length = instructions.slice(start + 1).findIndex((line) => line.name === 'FROM');
  return instructions.slice(start, length === -1 ? undefined : start + 1 + length);
}

/** Lines of the verdict about this unit; the machine's own units are not our affair. */
function relevant(output: string, unit: string): string[] {
  return output.split('\n').filter((line) => line.includes(unit));
}
