/** The add-on under AddressSanitizer and UndefinedBehaviorSanitizer: its unit tests once more, in a Vitest of their own. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { buildWithAsan } from '../support/asan.ts';

const ROOT = join(import.meta.dirname, '../..');
const LIMIT_MS = 180_000;

function run(env: Readonly<Record<string, string>>, args: readonly string[]): { status: number | null; output: string } {
  const child = spawnSync(process.execPath, args, {
    cwd: ROOT,
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: LIMIT_MS,
  });
  return { status: child.status, output: child.stdout + child.stderr };
}

const build = buildWithAsan();
if ('reason' in build) console.log(`skipped: ${build.reason}`);

describe.skipIf('reason' in build)('the add-on under sanitizers', () => {
  const env = 'env' in build ? build.env : {};

  test(
    'passes its unit tests without a finding',
    () => {
      const vitest = join(ROOT, 'node_modules/vitest/vitest.mjs');
      // The sanitizers make each of them several times as long; the limit is that of all together.
      const limit = ['--testTimeout', String(LIMIT_MS)];
      const { status, output } = run(env, [vitest, 'run', '--project', 'unit', 'test/unit/native-', ...limit]);
      expect(output).not.toMatch(/AddressSanitizer|runtime error:/);
      expect(status, output).toBe(0);
      expect(output).toMatch(/Tests .*passed/);
      expect(output).not.toMatch(/skipped/);
    },
    LIMIT_MS,
  );

  test(
    'loses no memory of its own',
    () => {
      const options = `${env['ASAN_OPTIONS'] ?? ''}:detect_leaks=1:fast_unwind_on_malloc=0:malloc_context_size=30`;
      const { status, output } = run({ ...env, ASAN_OPTIONS: options }, [join(ROOT, 'test/support/programs/native-leaks.ts')]);
      // Node loses some bytes at its end, hence the exit code: what counts is whether a frame of ours made them.
      expect([0, 86]).toContain(status);
      expect(output.split('\n\n').filter((leak) => leak.includes('native/src/'))).toEqual([]);
    },
    LIMIT_MS,
  );

  test(
    'would fail for a read behind an allocation',
    () => {
      const planted = buildWithAsan(join(ROOT, 'test/support/asan-planted'));
      expect(planted).toHaveProperty('path');
      const path = 'path' in planted ? planted.path : '';
      const { status, output } = run(env, ['-e', `require(${JSON.stringify(path)}).readBehind(16)`]);
      expect(output).toContain('AddressSanitizer: heap-buffer-overflow');
      expect(status).toBe(86);
    },
    LIMIT_MS,
  );
});
