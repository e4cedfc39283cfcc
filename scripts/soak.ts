/** `npm run soak`: the long forms of tests, run by hand. */
import { runVitest } from './vitest.ts';

process.exitCode = (await runVitest(['soak'])) ? 0 : 1;
