/** The example of docs/howto/use-the-client.md, as it stands there; test/guest/cli-streams.test.ts runs it with a real guest. */
import { expect, it } from 'vitest';
import { runClientExample } from '../support/client-example.ts';
import { startFakeFleet } from '../support/fake-fleet.ts';

it('the example of the client library runs as it is written', async () => {
  await using fleet = await startFakeFleet();
  const said = await runClientExample(fleet.url, fleet.token);
  expect(said).toEqual({ stdout: 'web is running\nthe guest said: hello, guest\n', stderr: '' });
});
