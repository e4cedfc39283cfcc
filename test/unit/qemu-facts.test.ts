import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { findQemu } from '../../agent/vm/host/qemu-facts.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fl-qemu-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function program(name: string, mode = 0o755): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, '', { mode });
  return path;
}

describe('the QEMU of a host', () => {
  test('is that of its architecture, from the first folder that has it', async () => {
    const [x86, arm] = [await program('qemu-system-x86_64'), await program('qemu-system-aarch64')];
    expect(findQemu({ arch: 'x64', folders: ['/nowhere', folder] })).toBe(x86);
    expect(findQemu({ arch: 'arm64', folders: [folder] })).toBe(arm);
  });

  test('is the one that is configured, whatever else is there', async () => {
    await program('qemu-system-x86_64');
    const own = await program('my-qemu');
    expect(findQemu({ configured: own, arch: 'x64', folders: [folder] })).toBe(own);
    expect(() => findQemu({ configured: '/no/qemu', arch: 'x64', folders: [folder] })).toThrow(
      'no QEMU at /no/qemu, where the configuration says it is',
    );
  });

  test('that is not there is told with the package that has it', async () => {
    await program('qemu-system-x86_64', 0o644);
    expect(() => findQemu({ arch: 'x64', folders: [folder] })).toThrow(
      'qemu-system-x86_64 was not found in PATH: apt install qemu-system-x86, or dnf install qemu-system-x86-core',
    );
    expect(() => findQemu({ arch: 'arm64', folders: [folder] })).toThrow(
      'qemu-system-aarch64 was not found in PATH: apt install qemu-system-arm, or dnf install qemu-system-aarch64-core',
    );
  });

  test('does not exist for an architecture that nobody has tried', () => {
    expect(() => findQemu({ arch: 'mips', folders: [folder] })).toThrow('no QEMU is known for architecture mips');
  });
});
