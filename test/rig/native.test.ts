/** The add-on on real AF_VSOCK and a real vhost: the programs of this folder run in a VM, plain and under the sanitizers. */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildWithAsan } from '../support/asan.ts';
import { held, outcomeOf, type ProgramOutcome, programOf } from '../support/rig/program.ts';
import { type Rig, startRig, whyNoRig } from '../support/rig/rig.ts';

const asan = buildWithAsan();
const reason = whyNoRig();
const skipped = reason === undefined ? '' : ` (skipped: ${reason})`;
const skippedAsan = 'reason' in asan ? ` (skipped: ${asan.reason})` : '';

const ASAN_FOLDER = 'asan';
const LIMIT_MS = 300_000;

/** The sanitizer build and its libraries, as files of the rig. */
function asanFiles(): Record<string, Uint8Array> {
  if ('reason' in asan) return {};
  return Object.fromEntries(
    [asan.path, ...asan.libraries].map((path) => [`${ASAN_FOLDER}/${basename(path)}`, readFileSync(path)]),
  );
}

/** The same environment as outside, with the paths of inside. */
function asanEnvironment(): string {
  if ('reason' in asan) return '';
  const inside = { LD_LIBRARY_PATH: `/fairlead/${ASAN_FOLDER}`, ...asan.env };
  const moved = Object.entries(inside).map(([name, value]) => {
    const isFile = value === asan.path || asan.libraries.includes(value);
    return `${name}=${isFile ? `/fairlead/${ASAN_FOLDER}/${basename(value)}` : value}`;
  });
  return `env ${moved.join(' ')} `;
}

describe.skipIf(reason !== undefined)(`the add-on in a VM${skipped}`, () => {
  let rig: Rig | undefined;

  beforeAll(async () => {
    rig = await startRig({ files: asanFiles() });
  }, LIMIT_MS);

  afterAll(async () => {
    await rig?.[Symbol.asyncDispose]();
  });

  const outcome = (command: string): Promise<ProgramOutcome> => {
    if (rig === undefined) throw new Error('there is no rig');
    return outcomeOf(rig, command);
  };

  test(
    'connects, listens, half-closes and holds back over the loopback',
    async () => {
      expect(await outcome(programOf('native-loopback'))).toEqual(held(19));
    },
    LIMIT_MS,
  );

  test(
    'reserves CIDs and keeps its time with guests that do not answer',
    async () => {
      expect(await outcome(programOf('native-cid'))).toEqual(held(9));
    },
    LIMIT_MS,
  );

  test.skipIf('reason' in asan)(
    `does all of that without a finding of the sanitizers${skippedAsan}`,
    async () => {
      expect(await outcome(`${asanEnvironment()}${programOf('native-loopback')} 1`)).toEqual(held(19));
      expect(await outcome(`${asanEnvironment()}${programOf('native-cid')}`)).toEqual(held(9));
    },
    2 * LIMIT_MS,
  );
});
