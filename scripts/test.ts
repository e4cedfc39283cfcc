/**
 * `npm test`: types, format, lint, dead code, then every test. Guest tests boot real VMs and rig tests a host in a VM, so these run one
 * file at a time. The closing line counts everything; each check counts as one.
 */
import { CHECK_STEPS, runSteps } from './steps.ts';
import { addCounts, runVitest } from './vitest.ts';

const checks = await runSteps(CHECK_STEPS);
const checkCounts = {
  passed: checks.filter((check) => check.ok).length,
  failed: checks.filter((check) => !check.ok).length,
  skipped: 0,
};
const quick = await runVitest(['project', 'unit', 'property', 'regression', 'integration']);
const real = await runVitest(['guest', 'rig']);
const total = addCounts(checkCounts, addCounts(quick, real));

process.stdout.write(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped\n`);
process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1;
