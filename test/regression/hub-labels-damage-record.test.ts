/**
 * Symptom: after one host had enrolled, `host.list` failed for everybody with "record … is damaged", and the host could not be removed.
 * Cause: the labels of the request and those of its token were each within the limit, and together not; the record was written unchecked.
 */
import { expect, test } from 'vitest';
import { generateHostKey, sha256 } from '../../shared/node/host-key.ts';
import { ENROL_PATH, enrolProofBytes } from '../../shared/protocol/handshake.ts';
import { startTestHub } from '../support/test-hub.ts';

test('a host whose labels with those of its token are too many is refused, and the list of hosts goes on', async () => {
  await using hub = await startTestHub();
  const token = await hub.hub.bootstrap.enrolToken({ labels: { site: 'berlin' } });
  const key = generateHostKey();
  const host = 'greedy';
  const labels = Object.fromEntries(Array.from({ length: 64 }, (_, index) => [`l${index}`, 'x']));
  const proof = key.sign(enrolProofBytes({ publicKey: key.publicKey, tokenDigest: sha256(token), host }));
  const enrol = (withLabels: object) =>
    fetch(hub.url + ENROL_PATH, {
      method: 'POST',
      headers: { connection: 'close' },
      body: JSON.stringify({ token, host, publicKey: key.publicKey, labels: withLabels, proof }),
    });

  const refused = await enrol(labels);
  expect(refused.status).toBe(400);
  expect(await refused.text()).toContain('labels');
  expect(await hub.post('host.list')).toMatchObject({ status: 200, body: { result: { hosts: [] } } });

  expect((await enrol({})).status, 'the token was not used up').toBe(200);
  expect(await hub.post('host.list')).toMatchObject({ status: 200, body: { result: { hosts: [{ host }] } } });
});
