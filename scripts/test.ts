/**
 * `npm test`: types, format, lint, dead code, then every test in one run, which ends with the runner's own summary. Guest tests boot real VMs
 * and rig tests a host in a VM, so these come last, and two files at a time.
 */
import { CHECK_STEPS, runSteps } from './steps.ts';
import { runVitest } from './vitest.ts';

const checks = await runSteps(CHECK_STEPS);
const testsPass = await runVitest(['project', 'unit', 'property', 'regression', 'integration', 'guest', 'guest-qemu10', 'rig']);
const failedChecks = checks.filter((check) => !check.ok).map((check) => check.name);
// After a summary that may be all green, and long after it was said.
if (failedChecks.length > 0) process.stdout.write(`\nfailed before the tests: ${failedChecks.join(', ')}\n`);
process.exitCode = failedChecks.length === 0 && testsPass ? 0 : 1;
