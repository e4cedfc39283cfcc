/** The client library as a web page loads it: in a process of its own, without the globals of Node. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { startFakeFleet } from '../support/fake-fleet.ts';

const PAGE = fileURLToPath(new URL('../support/programs/page.ts', import.meta.url));

it('works without a global of Node, obeys signals, and never puts the token into an address', async () => {
  await using fleet = await startFakeFleet();
  const { stdout } = await promisify(execFile)(process.execPath, [PAGE, fleet.url, fleet.token]);
  const { dialled, ...saw } = JSON.parse(stdout);
  expect(saw).toEqual({
    echo: true,
    call: 'CANCELLED',
    opening: 'enough',
    attempt: 'enough',
    cancelled: 'CANCELLED',
    refused: 'NOT_FOUND',
    closed: ['INTERRUPTED', 'CONNECT_FAILED'],
  });
  expect(dialled).toHaveLength(1);
  expect(dialled[0]).not.toContain(fleet.token);
});
