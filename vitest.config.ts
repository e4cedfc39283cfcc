/** One vitest project a kind of test; what each needs stands in docs/howto/test.md. */
import { defineConfig } from 'vitest/config';

/**
 * Those of the lowest order run first, and side by side; what boots machines has the processors to itself. Orders start at 1: where
 * vitest has one worker it runs order 0 last.
 */
function project(name: string, options: { timeoutMs: number; parallel: boolean; order: number }) {
  return {
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
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
      project('rig', { timeoutMs: 400_000, parallel: false, order: 3 }),
      project('soak', { timeoutMs: 1_800_000, parallel: false, order: 4 }),
    ],
  },
});
