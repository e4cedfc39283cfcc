/** `npm run soak`: the long forms of tests, run by hand. `test/soak/README.md` keeps the last results. */
import { runVitest } from './vitest.ts';

const counts = await runVitest(['soak']);
process.stdout.write(`\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`);
process.exitCode = counts.failed === 0 && counts.passed > 0 ? 0 : 1;
