/**
 * Symptom: a guest that wrote to its serial console without end filled the disk of its host.
 * Cause: the console's log was appended to for ever.
 */
import { appendFileSync, closeSync, openSync, writeSync } from 'node:fs';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { tailOf } from '../../agent/vm/logs/log-file.ts';
import { LogKeeper } from '../../agent/vm/logs/log-keeper.ts';
import { silent, spec, testHost, whyNoQemu } from '../support/vm.ts';

test('a log that grows without end is rolled, nothing of its end is lost, and its writer goes on', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'fl-log-'));
  const path = join(directory, 'console.log');
  // As QEMU has it open (`logappend=on`).
  const writer = openSync(path, 'a');
  try {
    using keeper = new LogKeeper({
      paths: () => [join(directory, 'none'), path],
      logger: silent,
      maxBytes: 8192,
      segmentBytes: 4096,
    });
    for (let line = 0; line < 2_000; line++) writeSync(writer, `line ${line}\n`);
    const written = await readFile(path, 'utf8');
    await keeper.look();
    expect((await stat(path)).size).toBeLessThanOrEqual(8192);
    const readKept = async () => (await readFile(`${path}.1`, 'utf8')) + (await readFile(path, 'utf8'));
    const kept = await readKept();
    expect(kept).toBe(written.slice(-kept.length));
    expect(kept.length).toBeGreaterThan(8192);

    writeSync(writer, 'more\n');
    await keeper.look();
    expect(await readKept()).toMatch(/line 1999\nmore\n$/);
    expect(tailOf(path, { from: 500_000 }), 'what began in the part that was taken is read from the new beginning').toMatch(
      /more\n$/,
    );
  } finally {
    closeSync(writer);
    await rm(directory, { recursive: true });
  }
});

const missing = whyNoQemu();
if (missing !== undefined) console.log(`skipped: ${missing}`);

test.skipIf(missing !== undefined)('the console of a VM that runs is looked at', { timeout: 30_000 }, async () => {
  await using host = await testHost();
  await host.manager.create(spec({ name: 'loud' }));
  await host.manager.start('loud');
  const path = join(host.options.stateDir, 'vms', 'loud', 'logs', 'console.log');
  appendFileSync(path, Buffer.alloc(17 * 1024 ** 2));
  await expect.poll(async () => (await stat(path)).size, { timeout: 20_000, interval: 500 }).toBeLessThan(16 * 1024 ** 2);
});
