/**
 * Symptom: somebody who joined a console just as the last other watcher left never saw a byte of it, and the agent was busy.
 * Cause: whoever opened a log was counted as its user only after a wait, and the last one who left meanwhile closed it.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { LogKeeper } from '../../agent/vm/logs/log-keeper.ts';
import { silent } from '../support/vm.ts';

test('a log that is opened while its last reader leaves can be read', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'fl-log-'));
  try {
    const path = join(directory, 'console.log');
    await writeFile(path, 'all is out\n');
    using keeper = new LogKeeper({ paths: () => [], logger: silent });

    const first = await keeper.open(path);
    const [second] = await Promise.all([keeper.open(path), first[Symbol.asyncDispose]()]);
    expect((await second.log.read(0, 100)).bytes.toString()).toBe('all is out\n');
    await second[Symbol.asyncDispose]();
  } finally {
    await rm(directory, { recursive: true });
  }
});
