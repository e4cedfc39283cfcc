/** The add-on on real AF_VSOCK and a real vhost: the programs of this folder run in a VM, plain and under the sanitizers. */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildWithAsan } from '../support/asan.ts';
import { type Rig, startRig, whyNoRig } from '../support/rig/rig.ts';
import { parseCases } from '../support/vm-cases.ts';

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

  /** Runs a program to its end; what it did is to equal `held(cases)`. */
  async function outcome(command: string): Promise<object> {
    const result = await rig?.run(command, { timeoutMs: LIMIT_MS });
    const { results, isComplete } = parseCases(result?.stdout ?? '');
    const failed = results.filter(({ error }) => error !== undefined);
    return { isComplete, cases: results.length, failed, exitCode: result?.exitCode, stderr: result?.stderr };
  }

  const held = (cases: number): object => ({ isComplete: true, cases, failed: [], exitCode: 0, stderr: '' });

  test(
    'connects, listens, half-closes and holds back over the loopback',
    async () => {
      expect(await outcome(program('native-loopback'))).toEqual(held(19));
    },
    LIMIT_MS,
  );

  test(
    'reserves CIDs and keeps its time with guests that do not answer',
    async () => {
      expect(await outcome(program('native-cid'))).toEqual(held(9));
    },
    LIMIT_MS,
  );

  test.skipIf('reason' in asan)(
    `does all of that without a finding of the sanitizers${skippedAsan}`,
    async () => {
      expect(await outcome(`${asanEnvironment()}${program('native-loopback')} 1`)).toEqual(held(19));
      expect(await outcome(`${asanEnvironment()}${program('native-cid')}`)).toEqual(held(9));
    },
    2 * LIMIT_MS,
  );
});

function program(name: string): string {
  return `node test/rig/programs/${name}.ts`;
}
