/** One vitest project a kind of test; what each needs stands in docs/howto/test.md. */
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

interface ProjectOptions {
  readonly timeoutMs: number;
  readonly parallel: boolean;
  readonly order: number;
  /** By default, the folder of the project's name. */
  readonly include?: string[];
  readonly env?: Record<string, string>;
}

/**
 * The life of a VM once more on the newest QEMU supported, where the installed one may be the oldest: what needs no guest of ours, or
 * hardly one, since that is what takes time. `FAIRLEAD_TEST_QEMU=10 npx vitest run --project guest --project regression` runs all of it there.
 */
const ON_QEMU_10 = [
  'test/guest/vm-lifecycle.test.ts',
  'test/guest/vm-adopt.test.ts',
  'test/guest/vm-confinement.test.ts',
  'test/guest/vm-faults.test.ts',
  'test/guest/vm-firmware.test.ts',
  'test/guest/vm-kvm-proof.test.ts',
  'test/guest/vm-migration.test.ts',
  'test/guest/vm-suspend-faults.test.ts',
  'test/regression/weakness-{0,1}*.test.ts',
];

/** Hundreds of agents, hubs and commands are started from their sources: the second of them finds them compiled. */
const COMPILED = { NODE_COMPILE_CACHE: join(import.meta.dirname, 'node_modules', '.cache', 'compiled') };

/**
 * Those of the lowest order run first, and side by side; what boots machines has the processors to itself. Orders start at 1: where
 * vitest has one worker it runs order 0 last.
 */
function project(name: string, options: ProjectOptions) {
  const { include = [`test/${name}/**/*.test.ts`], env = {} } = options;
  return {
    test: {
      name,
      include,
      env: { ...COMPILED, ...env },
      testTimeout: options.timeoutMs,
      hookTimeout: options.timeoutMs,
      fileParallelism: options.parallel,
      pool: 'forks' as const,
      sequence: { groupOrder: options.order },
    },
  };
}

export default defineConfig({
  test: {
    projects: [
      project('project', { timeoutMs: 60_000, parallel: true, order: 1 }),
      project('unit', { timeoutMs: 20_000, parallel: true, order: 1 }),
      project('property', { timeoutMs: 60_000, parallel: true, order: 1 }),
      project('regression', { timeoutMs: 60_000, parallel: true, order: 1 }),
      project('integration', { timeoutMs: 60_000, parallel: true, order: 1 }),
      project('guest', { timeoutMs: 180_000, parallel: false, order: 2 }),
      project('guest-qemu10', {
        timeoutMs: 180_000,
        parallel: false,
        order: 2,
        include: ON_QEMU_10,
        env: { FAIRLEAD_TEST_QEMU: '10' },
      }),
      project('rig', { timeoutMs: 600_000, parallel: false, order: 3 }),
      project('soak', { timeoutMs: 1_800_000, parallel: false, order: 4 }),
    ],
  },
});
