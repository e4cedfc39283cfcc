/**
 * Symptom: `vm.resume` right after a migration on QEMU 10 failed: "Migration is not finalized yet".
 * Cause: QEMU tells that it is completed a moment before it takes `cont` again.
 */
import { expect, test } from 'vitest';
import { goOn } from '../../agent/vm/go-on.ts';
import { FairleadError } from '../../shared/errors.ts';

const refusal = (desc: string) => new FairleadError('QMP_FAILED', `QMP command 'cont' failed on /run/web: GenericError: ${desc}`);

test('a guest that QEMU does not let go on yet goes on a moment later', async () => {
  let tries = 0;
  await goOn(async () => {
    tries += 1;
    if (tries < 3) throw refusal('Migration is not finalized yet');
  }, new AbortController().signal);
  expect(tries).toBe(3);
});

test('any other refusal is told at once', async () => {
  let tries = 0;
  const going = goOn(async () => {
    tries += 1;
    throw refusal('Resetting the Virtual Machine is required');
  }, new AbortController().signal);
  await expect(going).rejects.toThrow('Resetting');
  expect(tries).toBe(1);
});
