/**
 * VMs on a bridge, with taps that the agent makes. All of it happens in a network namespace of this test's own, so that the machine's
 * network stays as it is; there, the cases run as a program.
 */
import { execFile, execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { whyNoQemu } from '../support/vm.ts';
import { parseCases } from '../support/vm-cases.ts';

const isRoot = process.getuid?.() === 0;
const NAMESPACE = isRoot ? ['--net'] : ['--net', '--map-root-user'];
const PROGRAM = join(import.meta.dirname, '../support/programs/bridged-vms.ts');

function whyNoNamespace(): string | undefined {
  const script = 'ip link add br0 type bridge && ip tuntap add dev tap0 mode tap';
  try {
    execFileSync('unshare', [...NAMESPACE, 'sh', '-c', script], { stdio: 'pipe' });
    return undefined;
  } catch (error) {
    return `a network namespace with a bridge and a tap cannot be made here: ${error instanceof Error ? error.message : String(error)}`;
  }
}

const missing = whyNoQemu() ?? whyNoNamespace();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

describe.skipIf(missing !== undefined)('a VM on a bridge', () => {
  test('has a tap for as long as it runs, whatever becomes of the agent', async () => {
    const { stdout } = await promisify(execFile)('unshare', [...NAMESPACE, process.execPath, PROGRAM]);
    const { results, isComplete } = parseCases(stdout);
    expect(results.filter(({ error }) => error !== undefined)).toEqual([]);
    expect(isComplete).toBe(true);
    expect(results.length).toBe(10);
  });
});
