/**
 * Symptom: with FAIRLEAD_HUB or FAIRLEAD_TOKEN set to nothing, as `export FAIRLEAD_TOKEN=$(cat missing)` leaves it, every command said "context.token: must
 * not be empty" though the context file had one. Cause: only a variable that is not there counted as not set.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { contextPath, resolveContext, writeContext } from '../../cli/context.ts';

test('an empty variable is no setting', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'fairlead-cli-'));
  try {
    const file = join(directory, 'context.json');
    await writeContext(file, { hub: 'ws://127.0.0.1:1', token: 'stored' });
    const env = { FAIRLEAD_CONTEXT: file, FAIRLEAD_HUB: '', FAIRLEAD_TOKEN: '', FAIRLEAD_CA: '' };
    expect(await resolveContext({}, env)).toEqual({ hub: 'ws://127.0.0.1:1', token: 'stored' });
    expect(contextPath({ FAIRLEAD_CONTEXT: '', XDG_CONFIG_HOME: '/c' })).toBe('/c/fairlead/context.json');
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
