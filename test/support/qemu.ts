/**
 * Which QEMU the tests run, said in one place by the variable FAIRLEAD_TEST_QEMU:
 *
 *     unset, or `installed`   the one on PATH
 *     `10`                    the QEMU 10 of the cache, fetched by the set-up and not installed
 *     a path                  that binary
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findQemu } from '../../agent/vm/host/qemu-facts.ts';
import { artefacts, cacheDirectory, currentVersion, type QemuInstallation } from '../../cli/image/cache.ts';

export interface TestQemu {
  /** Empty where there is none. */
  readonly binary: string;
  /** Why there is none; undefined when there is. */
  readonly missing: string | undefined;
}

export function testQemu(wanted: string = process.env['FAIRLEAD_TEST_QEMU'] || 'installed'): TestQemu {
  try {
    return { binary: binaryOf(wanted), missing: undefined };
  } catch (error) {
    return { binary: '', missing: error instanceof Error ? error.message : String(error) };
  }
}

function binaryOf(wanted: string): string {
  if (wanted === 'installed') return findQemu();
  if (wanted !== '10') return findQemu({ configured: wanted });
  const { qemu10 } = artefacts();
  const folder = currentVersion(cacheDirectory(), 'qemu10');
  if (qemu10 === undefined || folder === undefined)
    throw new Error('QEMU 10 has not been fetched: run `node scripts/setup.mjs test`');
  return launcher(qemu10, join(folder, 'qemu-system-x86_64'));
}

/**
 * The agent takes one path for a QEMU; an unpacked one needs its folders told as well. So a script does that and becomes that QEMU: the
 * same process, with its arguments where others look for them. It is written whole, however many tests start at once.
 */
function launcher({ binary, args, env }: QemuInstallation, path: string): string {
  const assignments = Object.entries(env).map(([name, value]) => `${name}=${quoted(value)}`);
  const command = [...assignments, 'exec', quoted(binary), ...args.map(quoted), '"$@"'].join(' ');
  const script = `#!/bin/sh\n${command}\n`;
  if (existsSync(path) && readFileSync(path, 'utf8') === script) return path;
  const scratch = `${path}.${process.pid}`;
  writeFileSync(scratch, script, { mode: 0o755 });
  renameSync(scratch, path);
  return path;
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
