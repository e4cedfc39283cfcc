/** `npm run check`: the quick part of the tests. */
import { CHECK_STEPS, runSteps } from './steps.ts';
import { runVitest } from './vitest.ts';

const results = await runSteps(CHECK_STEPS);
const testsPass = await runVitest(['project', 'unit']);
process.exitCode = results.every((result) => result.ok) && testsPass ? 0 : 1;
