/** Clones, and the places that RAM can be in, on real KVM and vhost: programs of this folder run inside one rig. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { held, outcomeOf, PROGRAM_LIMIT_MS, type ProgramOutcome, programOf } from '../support/rig/program.ts';
import { type Rig, startRig, whyNoRig } from '../support/rig/rig.ts';

const reason = whyNoRig();
if (reason !== undefined) console.log(`skipped: ${reason}`);

describe.skipIf(reason !== undefined)('a host with KVM, vhost-vsock, huge pages and btrfs', () => {
  let rig: Rig | undefined;
  beforeAll(async () => {
    rig = await startRig();
  }, PROGRAM_LIMIT_MS);
  afterAll(() => rig?.[Symbol.asyncDispose]());

  const outcome = (program: string): Promise<ProgramOutcome> => {
    if (rig === undefined) throw new Error('there is no rig');
    return outcomeOf(rig, programOf(program));
  };

  it(
    'a VM and three clones of it have a vsock of the kernel each, and streams into all of them at once',
    async () => {
      expect(await outcome('vm-clone')).toEqual(held(4));
    },
    PROGRAM_LIMIT_MS,
  );

  it(
    'guests are put to sleep, saved and cloned with their RAM in huge pages and on btrfs',
    async () => {
      expect(await outcome('ram-places')).toEqual(held(4));
    },
    PROGRAM_LIMIT_MS,
  );
});
