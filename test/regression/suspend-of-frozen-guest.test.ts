/** A guest that was suspended, or saved under a name, while its file systems were frozen woke frozen, and its lease had ended with its former life. */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { VmStore } from '../../agent/vm/store.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { snapshotsOf } from '../support/snapshots.ts';
import { spec, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

test.skipIf(missing !== undefined)(
  'a guest whose file systems are frozen is not suspended or saved before they are thawed',
  async () => {
    await using host = await testHost();
    const { generation } = await host.manager.run(spec({ name: 'web', memory: { bytes: '64MiB', backing: 'file' } }));
    // What guest.fsfreeze leaves beside the record for as long as the lease lasts.
    const note = join(new VmStore(host.options).paths('web').dir, 'frozen.json');
    await writeFile(note, JSON.stringify({ generation, thawsAt: new Date(Date.now() + 60_000).toISOString() }));
    await expect(host.manager.suspend('web', { durability: 'process' })).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('thaw them first'),
    });
    const save = snapshotsOf(host).create(parseParams('snapshot.create', { vm: 'web', name: 'one', mode: 'instant' }), {});
    await expect(save).rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('thaw them first') });
    expect(host.manager.get('web').state).toBe('running');
    await rm(note);
    await host.manager.suspend('web', { durability: 'process' });
    expect(host.manager.get('web').state).toBe('suspended');
  },
);
