/** The long forms of test/property/mux-resume.test.ts and test/guest/line-resume.test.ts. */
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { type ResumeAction, runResumption } from '../support/resume-model.ts';
import { nothingLeft, resumeScripts } from '../support/resume-scripts.ts';
import { echoWhileCut, startSplitFleet } from '../support/split-fleet.ts';

const CUTS = 10_000;
const SOCKET_CUTS = 200;

const isCut = ({ kind }: ResumeAction): boolean => kind === 'cut' || kind === 'switch' || kind === 'replace-hub';

it(`${CUTS} cuts of simulated lines at any byte`, async () => {
  let cuts = 0;
  await fc.assert(
    fc.asyncProperty(resumeScripts({ minLength: 100, maxLength: 300 }), async (script) => {
      cuts += script.filter(isCut).length;
      expect(await runResumption(script)).toEqual(nothingLeft);
    }),
    { numRuns: CUTS / 4 },
  );
  expect(cuts).toBeGreaterThan(CUTS);
  console.log(`${cuts} cuts`);
});

it(`${SOCKET_CUTS} cuts of real sockets with a real guest behind`, async () => {
  await using fleet = await startSplitFleet({ guest: true });
  const bytes = await echoWhileCut(fleet, { cuts: SOCKET_CUTS, streams: 4, bytesBetweenCuts: 1024 ** 2 });
  expect(bytes).toBeGreaterThan(0);
  console.log(`${fleet.near.cuts + fleet.far.cuts} cuts, ${bytes} bytes each way`);
});
