/** One vitest project a kind of test; what each needs stands in docs/howto/test.md. */
import { defineConfig } from 'vitest/config';

function project(name: string, options: { timeoutMs: number; parallel: boolean }) {
  return {
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      testTimeout: options.timeoutMs,
      hookTimeout: options.timeoutMs,
      fileParallelism: options.parallel,
      pool: 'forks' as const,
    },
  };
}

export default defineConfig({
  test: {
    projects: [
      project('project', { timeoutMs: 60_000, parallel: true }),
      project('unit', { timeoutMs: 20_000, parallel: true }),
      project('property', { timeoutMs: 60_000, parallel: true }),
      project('regression', { timeoutMs: 60_000, parallel: true }),
      project('integration', { timeoutMs: 60_000, parallel: true }),
      project('guest', { timeoutMs: 180_000, parallel: false }),
      project('rig', { timeoutMs: 400_000, parallel: false }),
      project('soak', { timeoutMs: 1_800_000, parallel: false }),
    ],
  },
});
