/** One vitest project a kind of test; what each needs stands in docs/howto/test.md. */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

interface ProjectOptions {
  readonly timeoutMs: number;
  readonly maxWorkers: number;
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

const PROCESSORS = availableParallelism();
/** An emulated machine keeps one processor busy; more lanes than two would be more memory than a small machine has. */
const MACHINE_LANES = Math.min(2, PROCESSORS);

/**
 * The time until which `expect.poll` asks again. It ends a test that fails, and no test passes the sooner or later for it: so a machine
 * that is busy throughout has it too.
 */
const POLL_TIMEOUT_MS = 15_000;

/** The rig's two files take longest: begun first, they have the guests' beside them, and no processor is idle at the end. */
class RigFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const order = ({ project }: TestSpecification): number => project.config.sequence.groupOrder;
    const others = ({ project }: TestSpecification): number => Number(project.name !== 'rig');
    return (await super.sort(files)).toSorted((a, b) => order(a) - order(b) || others(a) - others(b));
  }
}

/**
 * Those of the lowest order run first, and side by side; what boots machines comes after them. Orders start at 1: where vitest has one
 * worker it runs order 0 last.
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
      expect: { poll: { timeout: POLL_TIMEOUT_MS } },
      maxWorkers: options.maxWorkers,
      pool: 'forks' as const,
      sequence: { groupOrder: options.order },
    },
  };
}

export default defineConfig({
  test: {
    sequence: { sequencer: RigFirst },
    projects: [
      project('project', { timeoutMs: 60_000, maxWorkers: PROCESSORS, order: 1 }),
      project('unit', { timeoutMs: 20_000, maxWorkers: PROCESSORS, order: 1 }),
      project('property', { timeoutMs: 60_000, maxWorkers: PROCESSORS, order: 1 }),
      project('regression', { timeoutMs: 60_000, maxWorkers: PROCESSORS, order: 1 }),
      project('integration', { timeoutMs: 60_000, maxWorkers: PROCESSORS, order: 1 }),
      project('guest', { timeoutMs: 180_000, maxWorkers: MACHINE_LANES, order: 2 }),
      project('guest-qemu10', {
        timeoutMs: 180_000,
        maxWorkers: MACHINE_LANES,
        order: 2,
        include: ON_QEMU_10,
        env: { FAIRLEAD_TEST_QEMU: '10' },
      }),
      project('rig', { timeoutMs: 600_000, maxWorkers: MACHINE_LANES, order: 2 }),
      project('soak', { timeoutMs: 1_800_000, maxWorkers: 1, order: 3 }),
    ],
  },
});
