/** The long form of test/guest/vm-clone.test.ts: sixteen clones of a guest of 1 GiB, a quarter of which is in use. */
import { expect, test } from 'vitest';
import { whyNoLinux } from '../support/linux-vm.ts';
import { sharingClones } from '../support/sharing-clones.ts';

const missing = whyNoLinux();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const CLONES = 16;

test.skipIf(missing !== undefined)(`${CLONES} clones of a 1 GiB guest take less than three of it`, async () => {
  const startedAt = performance.now();
  await using running = await sharingClones({ count: CLONES, mebibytes: 1024, randomMebibytes: 256 });
  const { clones, inEach, kibibytes, snapshots } = running;
  const ratio = kibibytes.clones / kibibytes.source;
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(0);
  console.log(`${CLONES} clones: ${ratio.toFixed(2)} of one, ${JSON.stringify(kibibytes)} KiB; ${seconds} s`);
  expect(ratio).toBeLessThan(3);
  expect(new Set(clones.map(({ uuid }) => uuid)).size).toBe(CLONES);
  expect(await inEach('hostname')).toEqual(clones.map(({ name }) => name));
  expect(new Set(await inEach('cat /sys/class/net/eth*/address')).size).toBe(CLONES);
  expect(new Set(await inEach('sha256sum </tmp/data')).size, 'one blob').toBe(1);
  expect(await snapshots.verify({ snapshot: 'gold' }, {})).toMatchObject({ ok: true });
});
