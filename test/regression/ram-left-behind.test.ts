/**
 * Memory that nobody gets back: RAM files of VMs stayed in `/dev/shm` when an agent died while it deleted one, and when its state was thrown away,
 * as after a trial. An agent that is started removes what is its own and of no VM; and nothing that may be somebody else's.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readBootId } from '../../agent/vm/host/host-info.ts';
import { leaveRamDirectory } from '../../agent/vm/snapshot/ram-directory.ts';
import { makeRamFiles } from '../../agent/vm/snapshot/ram-file.ts';
import { VmStore } from '../../agent/vm/store.ts';
import { spec, testHost } from '../support/vm.ts';

const AT = '2026-01-01T00:00:00Z';

async function places() {
  const directory = await mkdtemp(join(tmpdir(), 'fl-left-'));
  const at = { stateDir: join(directory, 'state'), ramDir: join(directory, 'ram'), ramDirIsDefault: true };
  const remove = { [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }) };
  const leave = async (...names: string[]) => {
    await mkdir(at.ramDir, { recursive: true, mode: 0o700 });
    for (const name of names) await writeFile(join(at.ramDir, name), 'ram');
  };
  const left = async () => (await readdir(at.ramDir)).filter((name) => !name.startsWith('.')).sort();
  /** An agent comes, and goes. */
  const visit = async (options: Partial<Parameters<typeof testHost>[0]> = {}): Promise<string[]> => {
    const told: string[] = [];
    const warn = (_about: object, message: string): void => void told.push(message);
    const host = await testHost({ ...at, logger: { debug() {}, info() {}, warn, error() {} }, ...options });
    await host.manager.close();
    await rm(dirname(host.options.runDir), { recursive: true, force: true });
    return told;
  };
  const record = async (name: string, more: object): Promise<void> => {
    const dir = join(at.stateDir, 'vms', name);
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const about = { version: 1, uuid: randomUUID(), spec: spec({ name }), createdAt: AT, generation: 1, ready: false };
    await writeFile(join(dir, 'vm.json'), JSON.stringify({ ...about, ...more }));
  };
  return { ...at, leave, left, visit, record, ...remove };
}

/** Of a guest that sleeps, as the agent before has left it. */
const ASLEEP = {
  state: 'suspended',
  suspension: {
    at: AT,
    durability: 'process',
    bootId: readBootId(),
    machine: 'q35',
    accelerator: 'tcg',
    qemuVersion: '7.2.0',
    ports: 0,
    deviceState: { bytes: 0, sha256: '' },
    ram: [],
    disks: [],
    abi: { machine: 'q35', accelerator: 'tcg', cpu: 'max', smp: '1', memory: '64M', devices: {} },
  },
};

describe('RAM of VMs that are not there any more', () => {
  test('is removed by the agent that is started, and that of VMs that sleep or cannot be read is not', async () => {
    await using host = await places();
    const { stateDir, ramDir, leave, left, visit, record } = host;
    await visit();
    // With the first VM that has its RAM there, the directory is this agent's.
    const gone = spec({ name: 'gone', memory: { bytes: '64MiB', backing: 'file' } });
    await makeRamFiles(gone, new VmStore({ stateDir, ramDir, runDir: ramDir, ramDirIsDefault: true }).paths('gone'), undefined);
    await record('asleep', ASLEEP);
    await record('broken', { version: 7 });
    await leave('asleep.ram', 'broken.ram', 'gone.ram-added', 'notes');
    const told = await visit();
    expect(await left()).toEqual(['asleep.ram', 'broken.ram', 'notes']);
    expect(told.filter((message) => message.startsWith('removed the RAM'))).toHaveLength(2);
  });

  test('goes with a deletion that was cut short, wherever RAM is kept', async () => {
    await using host = await places();
    const { stateDir, leave, left, visit } = host;
    await mkdir(join(stateDir, 'vms', 'web', 'logs'), { recursive: true, mode: 0o700 });
    await leave('web.ram', 'web.ram-added', 'other.ram');
    await visit({ ramDirIsDefault: false });
    expect(await left()).toEqual(['other.ram']);
    expect(await readdir(join(stateDir, 'vms'))).toEqual([]);
  });

  test('is left alone where it may be of another agent, and told of', async () => {
    await using host = await places();
    const { stateDir, ramDir, leave, left, visit } = host;
    const message = expect.stringContaining('left RAM of a VM that this agent does not know');
    // Nobody has said whose it is.
    await leave('theirs.ram');
    expect(await visit()).toEqual([message]);
    await rm(join(ramDir, 'theirs.ram'));
    await visit();
    // An agent with another state of the same path: from here on neither removes what it does not know.
    await rename(stateDir, `${stateDir}.first`);
    await visit();
    await rename(stateDir, `${stateDir}.second`);
    await rename(`${stateDir}.first`, stateDir);
    await leave('theirs.ram');
    expect(await visit()).toEqual([message]);
    expect(await left()).toEqual(['theirs.ram']);
  });

  test('keeps its directory there, and an empty one goes with the agent', async () => {
    await using host = await places();
    const { ramDir, leave, left, visit } = host;
    await leave('web.ram');
    await visit();
    await leaveRamDirectory(ramDir);
    expect(await left()).toEqual(['web.ram']);
    await rm(join(ramDir, 'web.ram'));
    await leaveRamDirectory(ramDir);
    await expect(readdir(ramDir)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
